"""The trials of a matrix on two workers in two clones that share nothing but a server and a DVC remote."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from tests.end_to_end.checkout import _git
from tests.end_to_end.test_crashes import RESULTS
from tests.end_to_end.test_deployments import Site, site  # noqa: F401
from tests.end_to_end.test_smoke import set_train
from tests.integration.test_flow import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture
def clones(site: Site, tmp_path: Path) -> list[Path]:  # noqa: F811
    """Two clones of the site's checkout, all three with the same remote and caches of their own."""
    main = site.checkout.folder
    folders = [main, tmp_path / "first", tmp_path / "second"]
    for folder in folders[1:]:
        _git(main, "clone", "--quiet", str(main), str(folder))
    remote = f"[core]\n    remote = shared\n['remote \"shared\"']\n    url = {tmp_path / 'remote'}\n"
    for folder in folders:
        (folder / ".dvc/config.local").write_text(remote)
    return folders[1:]


def start_worker(site: Site, clone: Path, log: Path) -> subprocess.Popen[bytes]:  # noqa: F811
    command = ["flows.operate", "worker", "--pool", "bp-lcz-trials", "--name", clone.name, "--limit", "1"]
    environment = site.environment | {
        "PYTHONPATH": str(clone / "src"),
        "PREFECT_HOME": str(clone / ".prefect"),
        "BP_LCZ_SLOTS": str(clone / ".slots"),  # as on two machines
    }
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=clone,
            env=environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def power_off(worker: subprocess.Popen[bytes]) -> None:
    """Everything of this machine ends at once, the worker before it could report anything."""
    processes = [worker, *psutil.Process(worker.pid).children(recursive=True)]
    for process in processes:
        process.kill()


SCRIPT = (
    "import sys\nfrom flows.train_matrix import train_matrix\n"
    "state = train_matrix(sys.argv[1], return_state=True)\n"
    "sys.exit(0 if state.is_completed() else f'error: {state.message}')\n"
)


@contextmanager
def running_matrix(
    site: Site,  # noqa: F811
    workspace: Path,
    log: Path,
    workers: list[subprocess.Popen[bytes]],
) -> Iterator[subprocess.Popen[bytes]]:
    """The flow over a workspace; in the end nothing of it or of the workers, such as come meanwhile, is left."""
    command = [sys.executable, "-c", SCRIPT, str(workspace)]
    with log.open("wb") as file:
        matrix = subprocess.Popen(command, cwd=site.checkout.folder, env=site.environment, stdout=file, stderr=file)
    try:
        yield matrix
    finally:
        for worker in workers:
            if worker.poll() is None:
                power_off(worker)
        if matrix.poll() is None:
            matrix.kill()


def test_a_worker_at_another_commit_takes_nothing(
    site: Site,  # noqa: F811
    clones: list[Path],
    tmp_path: Path,
) -> None:
    assert site.command("flows.operate", "deploy").returncode == 0
    _git(clones[1], "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "another")
    workspace = site.checkout.workspace("commits", "--profile", "smoke")
    set_train(workspace, epochs=1)
    logs = [tmp_path / f"{clone.name}.log" for clone in clones]
    workers = [start_worker(site, clones[1], logs[1])]
    matrix_log = tmp_path / "matrix.log"
    with running_matrix(site, workspace, matrix_log, workers) as matrix:
        wait_for(lambda: "no worker takes runs of commit" in matrix_log.read_text(), matrix, seconds=1200)
        workers.append(start_worker(site, clones[0], logs[0]))
        assert matrix.wait(1200) == 0, matrix_log.read_text()[-4000:]
    assert "epoch 1/1" in logs[0].read_text()
    assert "epoch 1/1" not in logs[1].read_text()


def test_each_trial_runs_once_and_a_lost_machine_loses_nothing(
    site: Site,  # noqa: F811
    clones: list[Path],
    tmp_path: Path,
) -> None:
    assert site.command("flows.operate", "deploy").returncode == 0
    workspace = site.checkout.workspace("matrix", "--profile", "smoke")
    set_train(workspace, epochs=30, patience=30)
    trials = list(yaml.safe_load((workspace / "params.yaml").read_text())["trials"])
    logs = [tmp_path / f"{clone.name}.log" for clone in clones]
    workers = [start_worker(site, clone, log) for clone, log in zip(clones, logs, strict=True)]
    matrix_log = tmp_path / "matrix.log"
    with running_matrix(site, workspace, matrix_log, workers) as matrix:
        wait_for(lambda: "epoch 2/30" in logs[0].read_text(), matrix, seconds=1800)
        lost = next(trial for trial in trials if f"{trial}: epoch 2/30" in logs[0].read_text())
        power_off(workers[0])
        assert matrix.wait(2400) == 0, matrix_log.read_text()[-4000:]
    printed = [log.read_text() for log in logs]
    assert f"{lost}: epoch 30/30" not in printed[0]
    for trial in trials:
        assert sum(text.count(f"{trial}: epoch 30/30") for text in printed) == 1, "each trial is finished once"
    assert f"{lost}: no heartbeat" in matrix_log.read_text()
    assert "epoch 1/30" not in matrix_log.read_text(), "nothing is trained where the matrix was started"

    alone = site.checkout.workspace("alone", "--profile", "smoke")
    set_train(alone, epochs=30, patience=30)
    # Without what the matrix has left in the cache.
    (alone / ".dvc/config.local").write_text(f"[cache]\n    dir = {tmp_path / 'cache'}\n")
    done = site.checkout.flow(alone)
    assert done.returncode == 0, done.stderr[-3000:]
    for trial in trials:
        for name in RESULTS:
            one, many = (folder / "outputs/models" / trial / name for folder in (alone, workspace))
            assert one.read_bytes() == many.read_bytes()
