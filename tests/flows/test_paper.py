"""What `make paper` does before its first trial, on a small release of the official form from a local FTP server."""

import hashlib
import shutil
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.states import Completed

from bp_lcz.errors import DeviceError, TemporaryError, UserError
from bp_lcz.params import load_params
from bp_lcz.so2sat.releases import Release, ReleaseFile
from flows import paper, reproduce_paper
from flows.paper import bring_data, duration, hours_left
from tests.conftest import ROOT
from tests.refusals import refuses, states
from tests.so2sat.patches import write_dataset
from tests.so2sat.servers import ftp_server

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("server") / "files")


@pytest.fixture
def release(server: Path) -> Release:
    files = [
        ReleaseFile(
            name=file.name,
            size=file.stat().st_size,
            md5=hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest(),
        )
        for file in sorted(server.iterdir())
    ]
    return Release(name="small", files=tuple(files))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bp_lcz.so2sat.download.time.sleep", lambda _: None)


def test_a_download_is_announced_goes_on_where_it_broke_and_is_not_done_twice(
    server: Path, release: Release, tmp_path: Path
) -> None:
    told: list[str] = []
    folder = tmp_path / "data/so2sat"
    with ftp_server(server, breaks=40) as (address, _), pytest.raises(UserError):
        bring_data(release, folder, tmp_path, [address], told.append)
    kept = {part.name: part.stat().st_size for part in folder.glob("*.part")}
    assert sum(kept.values()) > 0
    assert states(told[0], str(folder))
    assert "B free" in told[0]
    assert "/s measured" in told[1]
    with ftp_server(server, breaks=2) as (address, offsets):
        bring_data(release, folder, tmp_path, [address], told.append)
        assert max(offsets[1:]) > 0, "the first transfer measures the rate"
    for file in release.files:
        assert (folder / file.name).read_bytes() == (server / file.name).read_bytes()
    told.clear()
    bring_data(release, folder, tmp_path, ["ftp://nowhere.invalid"], told.append)
    assert told == []


def test_a_disk_without_room_for_data_and_packed_patches_is_refused_before_anything_is_asked(
    server: Path, release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert release.size is not None
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, int(1.4 * release.size)))
    with ftp_server(server) as (address, offsets):
        with refuses(tmp_path / "data", "make paper DATASET"):
            bring_data(release, tmp_path / "data", tmp_path, [address], lambda _: None)
        assert offsets == []
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, int(1.6 * release.size)))
        bring_data(release, tmp_path / "data", tmp_path, [address], lambda _: None)


def small_workspace(folder: Path, device: str) -> Path:
    content = (ROOT / "params.yaml").read_text()
    assert "  device: auto" in content
    (folder / "params.yaml").write_text(content.replace("  device: auto", f"  device: {device}"))
    return folder


class Here:
    """Stands in for a process of its own, which takes seconds to start."""

    def __init__(self, *_: object) -> None: ...
    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None: ...
    def submit(self, function: Any, *arguments: Any) -> Any:
        value = function(*arguments)
        return namedtuple("Done", "result")(lambda: value)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper, "ProcessPoolExecutor", Here)


@pytest.mark.usefixtures("in_process")
def test_hours_are_those_of_the_trials_that_are_not_done(server: Path, tmp_path: Path) -> None:
    params = load_params(small_workspace(tmp_path, "cpu") / "params.yaml")
    params = params.model_copy(update={"trials": {"eb_cnn-plain": params.trials["eb_cnn-plain"]}})
    hours, before = hours_left(tmp_path, params, server)
    assert set(hours) == set(params.trials)
    assert all(value > 0 for value in hours.values())
    assert before > 0
    for name in params.trials:
        (tmp_path / "outputs/evaluations" / name).mkdir(parents=True)
        (tmp_path / "outputs/evaluations" / name / "evaluation.json").touch()
    assert hours_left(tmp_path, params, server) == ({}, 0.0)


@pytest.mark.usefixtures("in_process")
def test_a_gpu_that_is_not_there_is_told_before_anything_runs(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    params = load_params(small_workspace(tmp_path, "cuda") / "params.yaml")
    with refuses("params.yaml", "train.device", kind=DeviceError):
        hours_left(tmp_path, params, server)


@pytest.mark.parametrize(
    ("cause", "where", "kind"),
    [
        (RuntimeError("CUDA error: unspecified launch failure"), "GPU", DeviceError),
        (BrokenProcessPool(), "50 steps of each kind of trial", TemporaryError),
    ],
)
@pytest.mark.usefixtures("in_process")
def test_a_gpu_or_process_that_is_lost_while_steps_are_measured_is_one_line(
    cause: Exception, where: str, kind: type[UserError], server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> float:
        raise cause

    monkeypatch.setattr(paper, "epoch_seconds", fail)
    params = load_params(small_workspace(tmp_path, "cpu") / "params.yaml")
    with refuses(where, "run again", kind=kind):
        hours_left(tmp_path, params, server)


def test_wrong_data_stop_everything_before_a_workspace_is_made(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prove(root: Path, weights: Path | None, kept: Path) -> None:
        assert (weights, kept) == (Path("w.hdf5"), tmp_path / ".scratch/sen2lcz-mf")
        raise UserError(root / "testing.h5", "other pixels")

    monkeypatch.setattr(paper, "prove_data", prove)
    with refuses(server / "testing.h5"):
        paper.paper(server, Path("w.hdf5"), checkout=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_deployment_takes_the_same_steps_and_spends_no_hours_where_one_of_them_fails(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def step(name: str, value: Any = None) -> Callable[..., Any]:
        return lambda *_, **__: steps.append(name) or value

    workspace = small_workspace(tmp_path, "cpu")
    shutil.copy(ROOT / "paper.yaml", workspace)
    before = {"bring_data": None, "verify_pins": None, "prove_data": "proven", "make_workspace": workspace}
    for name, value in before.items():
        monkeypatch.setattr(paper, name, step(name, value))
    monkeypatch.setattr(paper, "hours_left", step("hours_left", ({"eb_cnn-plain": 2.0}, 0.5)))
    monkeypatch.setattr(reproduce_paper, "train_bp_lcz", step("train_bp_lcz", Completed()))
    told = StringIO()
    monkeypatch.setattr(reproduce_paper, "get_run_logger", lambda: SimpleNamespace(info=partial(print, file=told)))
    flow = reproduce_paper.reproduce_paper.fn
    assert flow().is_completed()
    assert steps == [*before, "hours_left", "train_bp_lcz"]
    assert told.getvalue().startswith("proven\n")
    assert states(told.getvalue(), "2.5")

    def refuse(*_: object, **__: object) -> None:
        raise UserError(server / "testing.h5", "other pixels")

    monkeypatch.setattr(paper, "prove_data", refuse)
    steps.clear()
    state = flow(server)
    assert (state.is_failed(), state.message) == (True, str(UserError(server / "testing.h5", "other pixels")))
    assert steps == ["verify_pins"]


def test_times_are_for_people() -> None:
    assert [duration(seconds) for seconds in (5400, 200, 2, 200_000)] == ["1 h 30 min", "3 min", "1 min", "55 h 33 min"]
