"""Gives devices to stages, and limits how many stages of this machine use one device at once.

A slot is a file that the flow's process locks. The kernel frees it when that process ends for any reason. Runs with and
without a Prefect server count alike. The files belong to one user of one machine, so all runs of that user share the
devices, in any checkout. Other local users cannot open or replace the files.
"""

import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock

from bp_lcz.errors import UserError, one_line
from bp_lcz.files import try_lock
from bp_lcz.params import Params

CPU = "cpu"
_PAUSE = 0.1
"""Seconds between two checks of devices that other processes hold; the kernel has no signal for a freed lock."""
_RIGHT_OF_WAY = 10.0
"""Seconds for which a stage waits for earlier stages that may ask for a device soon; each has its own thread."""
_ANSWERS_WITHIN = 60.0
"""Seconds that nvidia-smi may take. Its first call after a boot loads the driver."""


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
        """Environment variables that show a stage its own GPUs only."""
        gpus = [device.removeprefix("cuda:") for device in self.devices if device != CPU]
        return {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}


class Devices:
    """The devices of this machine.

    Args:
        per_device: number of stages that may run on one device at once, including those of other flow runs.
        gpus: names of GPUs from `find_gpus`.
        graph: stages in the order in which they should run, each with its direct predecessors.
        done: stages that need not run.

    Raises:
        UserError: if the folder of the slots is a link or belongs to another user. That user could make this one open
            a file, or hold the devices.
    """

    def __init__(
        self,
        per_device: int,
        gpus: Sequence[str],
        graph: Mapping[str, set[str]] | None = None,
        done: Collection[str] = (),
    ) -> None:
        self.per_device = per_device
        self.gpus = tuple(gpus)
        folder = os.environ.get("BP_LCZ_SLOTS") or f"{tempfile.gettempdir()}/bp-lcz-slots-{os.getuid()}"
        self.folder = Path(folder)
        with suppress(FileExistsError):
            self.folder.mkdir(mode=0o700, parents=True)
        found = self.folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise UserError(self.folder, "must be a folder of your own; remove it or set BP_LCZ_SLOTS to one that is")
        self.folder.chmod(0o700)  # an older folder may be open to others
        self._graph = dict(graph or {})
        self._asked, self._done = set[str](), set(done)
        self._lines, self._waiting, self._holding = dict[str, tuple[str, ...]](), list[str](), set[str]()
        self._turn = Lock()
        self._closed = Event()

    @contextmanager
    def take(self, stage: str, params: Params, log: Callable[[int, str], object]) -> Iterator[Slot]:
        """Devices for a stage as soon as they are free. Stages of this object take turns in the order of the graph.

        Args:
            stage: name of the stage in dvc.yaml.
            params: parameters of its workspace.
            log: receives level and line if the stage has to wait; a warning if another run holds the device.

        Raises:
            UserError: if this machine has too few devices, or `close` is called meanwhile.
        """
        with self._turn:
            self._asked.add(stage)
            self._waiting.append(stage)
        started, is_told, slot = time.monotonic(), False, None
        try:
            while slot is None:
                if self._is_next(stage, params, time.monotonic() - started):
                    slot = None if self._closed.is_set() else self.try_take(stage, params)
                    if slot is None and not is_told:
                        if self._holding:  # what a stage of the same run holds is no news
                            log(logging.INFO, f"{stage} waits for a device")
                        else:
                            log(
                                logging.WARNING,
                                f"{stage} waits for a place on the device: other runs of this user have all",
                            )
                        is_told = True
                if slot is None and self._closed.wait(_PAUSE):
                    raise UserError(stage, "not started: the run has been stopped")
        finally:
            with self._turn:
                self._waiting.remove(stage)
                if slot is not None:
                    self._holding.add(stage)
        try:
            yield slot
        finally:
            self._holding.remove(stage)
            slot.free()

    def tell_done(self, stage: str) -> None:
        """Note that a stage has succeeded, so that stages which need it may ask for devices."""
        with self._turn:
            self._done.add(stage)

    def close(self) -> None:
        """End all waiting: stages that wait for devices fail."""
        self._closed.set()

    def _is_next(self, stage: str, params: Params, waited: float) -> bool:
        """Whether no earlier stage for the same devices is waiting or will ask at once."""
        with self._turn:
            line = self._line(stage, params)
            places = {name: place for place, name in enumerate(self._graph)}
            order = sorted(self._waiting, key=lambda name: places.get(name, len(places)))
            if next(name for name in order if self._line(name, params) == line) != stage:
                return False
            return waited > _RIGHT_OF_WAY or not any(
                name not in self._asked | self._done and self._line(name, params) == line and before <= self._done
                for name, before in list(self._graph.items())[: places.get(stage, 0)]
            )

    def _line(self, stage: str, params: Params) -> tuple[str, ...]:
        if stage not in self._lines:
            self._lines[stage] = self._candidates(stage, params)
        return self._lines[stage]

    def try_take(self, stage: str, params: Params) -> Slot | None:
        """Devices for a stage, or None while they are taken."""
        count, candidates = self._wanted(stage, params)
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

    def _wanted(self, stage: str, params: Params) -> tuple[int, tuple[str, ...]]:
        """How many devices a stage needs, and the devices that it may use."""
        candidates = self._candidates(stage, params)
        if candidates == (CPU,):
            return 1, candidates
        count = params.trial(stage.partition("@")[2]).train.devices
        if count > len(self.gpus):
            raise UserError("params.yaml", f"train.devices: {count}, but this machine shows {len(self.gpus)} GPU(s)")
        return count, candidates

    def _candidates(self, stage: str, params: Params) -> tuple[str, ...]:
        _, _, trial = stage.partition("@")
        is_on_cpu = trial not in params.trials or not self.gpus or params.trial(trial).train.device == "cpu"
        return (CPU,) if is_on_cpu else self.gpus

    def _lock(self, device: str, number: int, locks: ExitStack) -> bool:
        file = self.folder / f"{device.replace(':', '-').replace('/', '-')}.{number}"
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UserError(file, f"cannot be opened as a slot ({error.strerror}); remove it") from None
        slot = os.fdopen(descriptor, "r+b")  # a file object, so that garbage collection frees a slot that nobody frees
        if not try_lock(descriptor, file):
            slot.close()
            return False
        locks.enter_context(slot)
        return True


def find_gpus() -> list[str]:
    """Names such as ``cuda:0`` of the GPUs that this process may use, found without loading torch.

    Raises:
        UserError: if the driver does not answer.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [f"cuda:{gpu.strip()}" for gpu in visible.split(",") if gpu.strip() and gpu.strip() != "-1"]
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, "--query-gpu=index", "--format=csv,noheader"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, check=False, timeout=_ANSWERS_WITHIN)
    except subprocess.TimeoutExpired:
        raise UserError(
            "nvidia-smi",
            f"no answer within {_ANSWERS_WITHIN:g} s, so its driver hangs; mend that, or run without GPUs: "
            "CUDA_VISIBLE_DEVICES=",
        ) from None
    numbers = listed.stdout.split()
    if listed.returncode:
        print(f"note: nvidia-smi fails (status {listed.returncode}), so stages run without a GPU", file=sys.stderr)
        return []
    if not all(number.isdecimal() for number in numbers):
        found = one_line(Exception(listed.stdout), most=80)
        raise UserError("nvidia-smi", f"gives no numbers of GPUs ({found}); name them, such as CUDA_VISIBLE_DEVICES=0")
    return [f"cuda:{number}" for number in numbers]
