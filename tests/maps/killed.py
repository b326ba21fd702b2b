"""Makes a map in children that are killed, until one of them is left in peace; a script, so that nothing runs before.

Arguments: folder of a model, Sentinel-2 file, folder to make, number of kills.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from bp_lcz.maps import work
from bp_lcz.maps.map import MapOptions, make_map
from bp_lcz.model.checkpoint import load_classifier
from bp_lcz.scenes.scene import SceneOptions

work._SECONDS = 0


def start(model: Path, s2: Path, out: Path) -> int:
    child = os.fork()
    if child:
        return child
    torch.set_num_threads(1)
    try:
        make_map(load_classifier(model), "small", MapOptions(SceneOptions((s2,))), out, lambda _: None)
    finally:
        os._exit(int(not out.exists()))


def stored(out: Path) -> int:
    """Bytes of finished rows."""
    return sum(file.stat().st_size for file in out.parent.glob(f".{out.name}.work/*.rows"))


def main(model: Path, s2: Path, out: Path, kills: int) -> None:
    rng = random.Random(kills)
    places = []
    for _ in range(kills):
        before, child = stored(out), start(model, s2, out)
        wait = rng.uniform(0, 0.3)
        deadline = time.monotonic() + 60
        while stored(out) == before and time.monotonic() < deadline:  # as a run that stores nothing never ends
            time.sleep(0.005)
        time.sleep(wait)
        if os.waitpid(child, os.WNOHANG)[0]:
            break  # it was done before it could be killed
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        places.append(stored(out))
    if not out.exists():
        assert os.waitpid(start(model, s2, out), 0)[1] == 0
    print(len(set(places)))


main(*map(Path, sys.argv[1:4]), int(sys.argv[4]))  # type: ignore[arg-type]
