"""Training in a process of its own that can be killed.

A module without pytest, since the process imports it. The processes are forks of one that has imported torch once.
"""

import multiprocessing
import sys
import time
from pathlib import Path

from bp_lcz.params import TrialParams

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["bp_lcz.model.training"])


class Trainer:
    """A running training of a trial.

    Args:
        inputs: packed data and prompts.
        folder: for ``scratch``, ``out`` and the log.
        trial: what is trained.
    """

    def __init__(self, inputs: tuple[Path, Path], folder: Path, trial: TrialParams) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"{time.monotonic_ns()}.log"
        self.log.touch()
        arguments = (trial, *inputs, folder / "scratch", folder / "out")
        self.process = FORKS.Process(target=_train, args=(self.log, arguments))
        self.process.start()

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self.log.read_text()

    def wait_for(self, text: str) -> None:
        """Wait until it has printed this."""
        while text not in self.printed:
            assert self.process.is_alive(), f"ended without {text}: {self.printed}"
            time.sleep(0.01)

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self.process.kill()
        self.process.join()


def _train(log: Path, arguments: tuple[object, ...]) -> None:
    from bp_lcz.model.training import train_trial

    with log.open("w", buffering=1) as sys.stdout:
        train_trial(*arguments)  # type: ignore[arg-type]
