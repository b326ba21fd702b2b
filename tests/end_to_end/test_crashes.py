"""Real processes killed with -9 and real full disks: the next run goes on, and nothing half-made is left."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from bp_lcz.records import Claims
from tests.end_to_end.test_smoke import Checkout, set_train
from tests.integration.test_flow import is_alive, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

RESULTS = ("model.safetensors", "model.json", "history.csv")
EPOCHS = 8


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def workspace(checkout: Checkout) -> Path:
    folder = checkout.workspace("smoke", "--profile", "smoke")
    set_train(folder, epochs=EPOCHS, patience=EPOCHS)
    return folder


def start_flow(checkout: Checkout, workspace: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "flows.train_bp_lcz",
        "--workspace",
        str(workspace),
        "--concurrency",
        "1",
        "--verbose",
    ]
    with log.open("ab") as file:
        return subprocess.Popen(
            command, cwd=checkout.folder, env=checkout.environment, stdout=file, stderr=file, start_new_session=True
        )


def descendant(flow: subprocess.Popen[bytes], words: str) -> psutil.Process:
    found = [
        process
        for process in psutil.Process(flow.pid).children(recursive=True)
        if words in " ".join(process.cmdline()[:8])
    ]
    assert len(found) == 1, found
    return found[0]


def left_over(workspace: Path) -> list[Path]:
    return [
        *workspace.glob("outputs/**/.*.part"),
        *workspace.glob(".scratch/**/*.ckpt"),
        *(folder for folder in workspace.glob(".scratch/train/*") if folder.is_dir()),
    ]


def test_kills_of_trainer_dvc_and_flow_lose_nothing(checkout: Checkout, workspace: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def printed() -> str:
        return log.read_text(errors="replace") if log.exists() else ""

    trials = yaml.safe_load((workspace / "params.yaml").read_text())["trials"]
    met = list[str]()

    def next_trial() -> str:
        """The next trial that is in the middle of its training; the flow chooses their order."""

        def training() -> str | None:
            return next((trial for trial in trials if trial not in met and f"{trial}: epoch 3/" in printed()), None)

        wait_for(training, flow, seconds=1200)
        met.append(str(training()))
        return met[-1]

    flow = start_flow(checkout, workspace, log)
    try:
        for words in ("bp-lcz train ", "bp_lcz.dvc_internals repro train@"):
            trial = next_trial()
            descendant(flow, words + trial).kill()
            wait_for(lambda trial=trial: f"{trial}: resuming from" in printed(), flow, seconds=600)
            assert printed().count(f"{trial}: epoch 1/") == 1

        third = next_trial()
        trainer = descendant(flow, f"bp-lcz train {third}")
        flow.kill()
        flow.wait()
        wait_for(lambda: not is_alive(trainer.pid))
    finally:
        for process in psutil.Process().children(recursive=True):
            process.kill()
    assert not (workspace / "outputs/models" / third).exists()

    again = checkout.flow(workspace, "--verbose")
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    assert f"{third}: resuming from" in again.stderr
    assert f"{met[0]}: epoch" not in again.stderr, "what is done is not repeated"
    assert f"{third}: epoch 1/" not in again.stderr
    assert left_over(workspace) == []

    # The same three trials in one go, from the same packed data.
    script = (
        "import sys\nfrom pathlib import Path\nfrom bp_lcz.model.training import train_trial\n"
        "from bp_lcz.params import load_params\n"
        "params = load_params()\n"
        "for trial in params.trials:\n"
        "    train_trial(params.trial(trial), Path('outputs/packed'), Path('outputs/prompts.safetensors'),\n"
        "               Path(sys.argv[1]) / 'scratch', Path(sys.argv[1]) / trial)\n"
    )
    unbroken = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "unbroken")]
    subprocess.run(unbroken, cwd=workspace, env=checkout.environment, check=True, capture_output=True)
    for trial in trials:
        for name in RESULTS:
            resumed = (workspace / "outputs/models" / trial / name).read_bytes()
            assert resumed == (tmp_path / "unbroken" / trial / name).read_bytes(), f"{trial}/{name}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, free: int) -> Path:
    """Leave this many bytes free; returns the ballast."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    os.truncate(ballast, max(0, ballast.stat().st_size - free))
    return ballast


def mend(checkout: Checkout, folder: Path) -> None:
    """What each flow does first."""
    script = (
        "import sys, prefect\nfrom pathlib import Path\nfrom flows.stages import only_run\n"
        "@prefect.flow\n"
        "def enter() -> None:\n"
        "    with only_run(Path(sys.argv[1])):\n"
        "        pass\n"
        "enter()\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(folder)], cwd=checkout.folder, env=checkout.environment, check=True
    )


STAGES: dict[str, tuple[str, ...]] = {
    "simulate": ("data/demo",),
    "validate": ("outputs/gate",),
    "pack": ("outputs/packed",),
    "prompts": ("outputs/prompts.safetensors",),
    "train eb_cnn-plain": ("outputs/models/eb_cnn-plain",),
    "evaluate eb_cnn-plain": ("outputs/evaluations/eb_cnn-plain",),
    "report": ("reports",),
    "verify": ("outputs/claims.json",),
}


def test_a_full_disk_stops_each_stage_with_one_line_and_leaves_nothing(checkout: Checkout, small_disk: Path) -> None:
    for name in ("params.yaml", "paper.yaml", "references.yaml"):
        shutil.copy(checkout.folder / name, small_disk)
    content = yaml.safe_load((small_disk / "params.yaml").read_text())
    content["simulate"] |= {
        "patches": {"training": 68, "validation": 34, "testing": 34},
        "cities": {"training": 3, "validation": 2, "testing": 2},
    }
    content["train"] |= {"epochs": 2}
    content["trials"] = {"eb_cnn-plain": {"backbone": "eb_cnn", "variant": "plain", "seed": 1}}
    (small_disk / "params.yaml").write_text(yaml.safe_dump(content))

    def bp_lcz(stage: str) -> subprocess.CompletedProcess[str]:
        return checkout.run("bp_lcz.cli", *stage.split(), cwd=small_disk)

    def files() -> set[str]:
        return {
            path.relative_to(small_disk).as_posix()
            for path in small_disk.rglob("*")
            if path.is_file() and path.name != "ballast" and ".scratch" not in path.parts
        }

    for stage, outputs in STAGES.items():
        before = files()
        ballast = fill(small_disk, 0)
        stopped = bp_lcz(stage)
        assert stopped.returncode == 1, (stage, stopped.stderr[-2000:])
        assert (
            stopped.stderr.splitlines()[-1]
            == f"error: {small_disk}: no space left on the disk; free some and run again"
        ), (
            stage,
            stopped.stderr[-3000:],
        )
        assert "Traceback" not in stopped.stderr, stage
        assert files() == before, stage
        ballast.unlink()
        done = bp_lcz(stage)
        assert done.returncode == 0, (stage, done.stderr[-2000:])
        for output in outputs:
            assert (small_disk / output).exists(), stage
    assert not list(small_disk.rglob("*.part"))
    assert not Claims.read(small_disk / "outputs/claims.json").is_comparable


def test_a_disk_that_fills_under_dvc_is_mended_by_the_next_flow(
    small_disk: Path, checkout: Checkout, tmp_path: Path
) -> None:
    """DVC writes its cache, its record and its locks too; none of them may block the run after it."""
    from tests.integration.conftest import ToyProject

    project = ToyProject(small_disk / "project")
    for free in (0, 4096, 8192, 16384, 32768, 65536):
        ballast = fill(small_disk, free)
        stopped = checkout.run("dvc", "repro", "report", cwd=project.folder)
        ballast.unlink()
        if stopped.returncode == 0:
            break
    mend(checkout, project.folder)
    done = checkout.run("dvc", "repro", "verify", cwd=project.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    before = project.events
    assert checkout.run("dvc", "repro", "verify", cwd=project.folder).returncode == 0
    assert project.events == before


def test_flows_killed_at_any_moment_leave_nothing_that_stops_the_next(tmp_path: Path, checkout: Checkout) -> None:
    """Twelve kills of a whole process tree, spread over what a run does."""
    from tests.integration.conftest import ToyProject

    project = ToyProject(tmp_path / "project")

    def started(count: int) -> Callable[[], bool]:
        return lambda: len(project.events) >= count

    for kill in range(1, 13):
        command = [sys.executable, "-m", "dvc", "repro", "verify"]
        repro = subprocess.Popen(
            command, cwd=project.folder, env=checkout.environment, start_new_session=True, stderr=subprocess.DEVNULL
        )
        target = len(project.events) + 1 + kill % 3
        wait_for(lambda target=target, repro=repro: started(target)() or repro.poll() is not None)
        if repro.poll() is None:
            os.killpg(repro.pid, signal.SIGKILL)
        repro.wait()
    mend(checkout, project.folder)
    done = checkout.run("dvc", "repro", "verify", cwd=project.folder)
    assert done.returncode == 0, done.stdout + done.stderr
