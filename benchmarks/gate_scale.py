"""Speed of the passes over the pixels compared with reading the same file, and their memory.

    python -m benchmarks.gate_scale make FOLDER --gigabytes 10     # simulated patches, tiled to the wanted size
    python -m benchmarks.gate_scale time FOLDER                    # prints a table

``make`` writes contiguous float64 files in So2Sat's exact layout in constant memory. Tiles differ by a factor of a
millionth, so no patch is a copy of another. ``time`` runs `cat` and each pass in turns on the same file: first with an
empty page cache, then with as much of the file cached as fits into memory.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
from tqdm import tqdm

from benchmarks.patches import evict
from bp_lcz.bands import ALL_CHANNELS
from bp_lcz.demo.simulate import simulate
from bp_lcz.params import SPLITS
from bp_lcz.so2sat.writer import new_patches

PATCH_BYTES = 147_592
TILE = 170  # patches, ten of each class
SMALL = {"validation": 68, "testing": 68}

# Each in a process of its own, so that its peak memory is its own.
STATISTICS = "from bp_lcz.gate.statistics import patch_statistics as run; run(root)"
VALIDATE = "from bp_lcz.gate.quality import gate; gate(root, out / 'gate', reflectance_max=3.0, zeros_max=0.5)"
PACK = (
    "from bp_lcz.patches.pack import pack; from bp_lcz.records import GateSummary; "
    "pack(root, GateSummary.read(out / 'gate/summary.json'), out / 'packed')"
)
PROLOGUE = "import sys; from pathlib import Path; root, out = Path(sys.argv[1]), Path(sys.argv[2]); "


def make(folder: Path, gigabytes: float) -> None:
    """Write a data set whose training file has the given size."""
    simulate(
        folder,
        seed=1,
        patches={"training": TILE, **SMALL},
        cities={"training": 10, "validation": 4, "testing": 4},
        frequencies="uniform",
        label_noise=0.15,
    )
    count = int(gigabytes * 1e9 / PATCH_BYTES)
    with h5py.File(folder / "training.h5") as file, h5py.File(folder / "training_geo.h5") as geo:
        tile = {key: file[key][:] for key in ("sen1", "sen2", "label")}
        places = {key: geo[key][:] for key in ("epsg", "tfw", "city")}
        source = file["label"].attrs["source"].decode()
    with new_patches(folder / "training.h5", ALL_CHANNELS, count, source=source) as writer:
        for number, start in enumerate(tqdm(range(0, count, TILE), desc="tile", unit="tile")):
            varied = {key: values * (1.0 if key == "label" else 1 + 1e-6 * number) for key, values in tile.items()}
            writer.add(**{key: values[: count - start] for key, values in (varied | places).items()})
    for split in SPLITS:
        (folder / f"{split}_geo.h5").unlink()


def time_passes(folder: Path, rounds: int) -> None:
    """Print seconds, rates and peak memory of `cat` and of each pass."""
    file = folder / "training.h5"
    size = file.stat().st_size
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        python = [sys.executable, "-c"]
        where = [str(folder), scratch]
        passes = {
            "cat": ["cat", str(file)],
            "statistics": [*python, PROLOGUE + STATISTICS, *where],
            "validate": [*python, PROLOGUE + VALIDATE, *where],
            "pack": [*python, PROLOGUE + PACK, *where],
        }
        print(f"{size / 1e9:.2f} GB, {os.cpu_count()} processors, median of {rounds} rounds")
        print(f"{'pages':8}{'pass':12}{'seconds':>9}{'MB/s':>8}{'of cat':>8}{'peak MB':>9}")
        for state in ("dropped", "kept"):
            runs: dict[str, list[tuple[float, float]]] = {name: [] for name in passes}
            for _ in range(rounds):
                for name, command in passes.items():
                    if state == "dropped":
                        evict(file)
                    runs[name].append(run(command))
            rates = {}
            for name, results in runs.items():
                seconds = statistics.median(result[0] for result in results)
                rates[name] = size / seconds / 1e6
                peak = max(result[1] for result in results)
                share = rates[name] / rates["cat"]
                print(f"{state:8}{name:12}{seconds:9.1f}{rates[name]:8.0f}{share:8.0%}{peak:9.0f}", flush=True)


def run(command: list[str]) -> tuple[float, float]:
    """Seconds and peak resident megabytes of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{errors.decode()[-2000:]}")
    return seconds, usage.ru_maxrss * resource_unit() / 1e6


def resource_unit() -> int:
    """Number of bytes in the unit of ru_maxrss."""
    return 1 if sys.platform == "darwin" else 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make", help="write a data set of the wanted size")
    maker.add_argument("folder", type=Path)
    maker.add_argument("--gigabytes", type=float, default=10)
    timer = commands.add_parser("time", help="time cat, statistics, validate and pack on it")
    timer.add_argument("folder", type=Path)
    timer.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.command == "make":
        make(arguments.folder, arguments.gigabytes)
    else:
        time_passes(arguments.folder, arguments.rounds)
