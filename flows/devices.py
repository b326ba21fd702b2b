"""Which device a stage computes on, and how many stages of this machine may do so at once.

A slot is a file locked by the flow's process: the kernel frees it when that process ends, however it ends, and
runs with and without a Prefect server count alike. The files belong to one user of one machine, so all runs of
that user share the devices, in whichever checkout they are. Other local users can neither open nor replace them.
"""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from bp_lcz.errors import UserError
from bp_lcz.files import try_lock
from bp_lcz.params import Params

CPU = "cpu"


@dataclass
class Slot:
    """Devices held for one stage until `free`."""

    devices: tuple[str, ...]
    _locks: ExitStack

    def free(self) -> None:
        """Let the next stage have the devices."""
        self._locks.close()

    @property
    def environment(self) -> dict[str, str]:
        """What shows a stage its GPUs and no others."""
        gpus = [device.removeprefix("cuda:") for device in self.devices if device != CPU]
        return {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}


class Devices:
    """The devices of this machine.

    Args:
        per_device: stages that may run on one device at once, those of other flow runs included.
        gpus: as `find_gpus` gives them.

    Raises:
        UserError: if the folder of the slots is a link or another user's: who can write there could have a file of
            this user opened, or hold the devices.
    """

    def __init__(self, per_device: int, gpus: Sequence[str]) -> None:
        self.per_device = per_device
        self.gpus = tuple(gpus)
        folder = os.environ.get("BP_LCZ_SLOTS") or f"{tempfile.gettempdir()}/bp-lcz-slots-{os.getuid()}"
        self.folder = Path(folder)
        with suppress(FileExistsError):
            self.folder.mkdir(mode=0o700, parents=True)
        found = self.folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise UserError(self.folder, "must be a folder of your own; remove it or set BP_LCZ_SLOTS to one that is")
        self.folder.chmod(0o700)  # one made before may be wider

    def try_take(self, stage: str, params: Params) -> Slot | None:
        """Devices for a stage of this name, or None while they are taken."""
        _, _, trial = stage.partition("@")
        count, candidates = 1, tuple[str, ...]((CPU,))
        if trial in params.trials and self.gpus and params.trial(trial).train.device != "cpu":
            count, candidates = params.trial(trial).train.devices, self.gpus
            if count > len(candidates):
                raise UserError(
                    "params.yaml", f"train.devices: {count}, but this machine shows {len(candidates)} GPU(s)"
                )
        locks, taken = ExitStack(), list[str]()
        # Even filling: the first slot of every device before the second of any.
        for number in range(self.per_device):
            for device in candidates:
                if device not in taken and len(taken) < count and self._lock(device, number, locks):
                    taken.append(device)
        if len(taken) < count:
            locks.close()
            return None
        return Slot(tuple(taken), locks)

    def _lock(self, device: str, number: int, locks: ExitStack) -> bool:
        file = self.folder / f"{device.replace(':', '-').replace('/', '-')}.{number}"
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UserError(file, f"cannot be opened as a slot ({error.strerror}); remove it") from None
        slot = os.fdopen(descriptor, "r+b")  # an object, so that a slot nobody frees goes with the last name of it
        if not try_lock(descriptor, file):
            slot.close()
            return False
        locks.enter_context(slot)
        return True


def find_gpus() -> list[str]:
    """Names such as ``cuda:0`` of the GPUs that this process may use, found without loading torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [f"cuda:{gpu.strip()}" for gpu in visible.split(",") if gpu.strip() and gpu.strip() != "-1"]
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, "--query-gpu=index", "--format=csv,noheader"]
    listed = subprocess.run(query, capture_output=True, text=True, check=False)
    return [f"cuda:{line.strip()}" for line in listed.stdout.splitlines()] if listed.returncode == 0 else []
