"""Slots on devices: shared by all processes of a user, freed by the kernel."""

import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from bp_lcz.errors import UserError
from bp_lcz.params import Params, load_params
from flows.devices import Devices, find_gpus
from tests.conftest import ROOT
from tests.refusals import refuses

HOLDER = """
import sys
from bp_lcz.params import load_params
from flows.devices import Devices
slot = Devices(1, []).try_take("validate", load_params())
assert slot is not None
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def slots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BP_LCZ_SLOTS", str(tmp_path / "slots"))


@pytest.fixture
def params() -> Params:
    return load_params(ROOT / "params.yaml")


def test_a_device_takes_as_many_stages_as_it_may(params: Params) -> None:
    devices = Devices(2, [])
    first, second = (devices.try_take("train@eb_cnn-plain", params) for _ in range(2))
    assert first is not None
    assert second is not None
    assert devices.try_take("validate", params) is None
    assert Devices(2, []).try_take("validate", params) is None, "another run in this process waits too"
    first.free()
    assert devices.try_take("validate", params) is not None


def test_a_killed_process_leaves_its_device_free(params: Params) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert Devices(1, []).try_take("validate", params) is None
    finally:
        holder.kill()
        holder.communicate()
    assert Devices(1, []).try_take("validate", params) is not None


def test_who_waits_for_a_device_gets_it_when_it_is_free_or_gives_up_with_the_run(params: Params) -> None:
    holder, devices = Devices(1, []), Devices(1, [])
    waits, done = queue.SimpleQueue[str](), queue.SimpleQueue[object]()

    def wait() -> None:
        try:
            with devices.take("validate", params, lambda _, line: waits.put(line)) as slot:
                done.put(slot.devices)
        except UserError as error:
            done.put(error.where)

    for is_freed, expected in ((True, ("cpu",)), (False, "validate")):
        held = holder.try_take("validate", params)
        assert held is not None
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert waits.get(timeout=60) == "validate waits for a place on the device: other runs of this user have all"
        assert done.empty()
        (held.free if is_freed else devices.close)()
        waiting.join(60)
        assert done.get(timeout=1) == expected


def test_who_waits_for_a_stage_of_its_own_run_is_not_told_of_another_run(params: Params) -> None:
    devices, waits = Devices(1, []), queue.SimpleQueue[str]()

    def wait() -> None:
        with refuses("validate"), devices.take("validate", params, lambda _, line: waits.put(line)):
            pass

    with devices.take("pack", params, print):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert waits.get(timeout=60) == "validate waits for a device"
        devices.close()
        waiting.join(60)


def test_the_first_of_the_graph_goes_first_whoever_asks_first(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = list(params.trials)
    graph = {"pack": set()} | {f"train@{trial}": {"pack"} for trial in trials}
    first, second, third = (f"train@{trial}" for trial in trials)
    devices = Devices(1, [], graph, {"pack"})
    done = queue.SimpleQueue[str]()

    def run(stage: str) -> None:
        with devices.take(stage, params, print):
            done.put(stage)
        devices.tell_done(stage)

    threads = [threading.Thread(target=run, args=(stage,)) for stage in (third, second, first)]
    for thread in threads[:2]:
        thread.start()
    with pytest.raises(queue.Empty):
        done.get(timeout=0.5)
    threads[2].start()
    assert [done.get(timeout=60) for _ in threads] == [first, second, third]

    monkeypatch.setattr("flows.devices._RIGHT_OF_WAY", 0.2)
    devices = Devices(1, [], graph, {"pack"})
    with devices.take(second, params, print):
        assert devices.try_take(first, params) is None, "one that does not ask holds nobody up for ever"


def test_a_stage_that_still_needs_another_holds_nobody_up(params: Params) -> None:
    first, second, _ = params.trials
    graph = {"pack": {"validate"}, f"train@{first}": {"pack"}, f"train@{second}": {"prompts"}}
    with Devices(1, [], graph, ["prompts"]).take(f"train@{second}", params, print) as slot:
        assert slot.devices == ("cpu",)


def test_after_the_end_of_a_run_nobody_takes_a_device_that_is_free(params: Params) -> None:
    devices = Devices(1, [])
    devices.close()
    with refuses("validate"), devices.take("validate", params, print):
        pass


def test_slots_lie_in_a_folder_that_only_this_user_can_enter(params: Params, tmp_path: Path) -> None:
    (tmp_path / "slots").mkdir()
    (tmp_path / "slots").chmod(0o777)  # by an earlier version
    assert Devices(1, []).try_take("validate", params) is not None
    assert (tmp_path / "slots").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "slots/cpu.0").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("target", ["there", "missing"])
def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    (tmp_path / "slots").symlink_to(tmp_path / target)
    with refuses(tmp_path / "slots", "BP_LCZ_SLOTS"):
        Devices(1, [])
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o755
    assert not (tmp_path / "missing").exists()


def test_a_folder_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "slots").mkdir(mode=0o755)
    monkeypatch.setattr(os, "getuid", lambda: (tmp_path / "slots").stat().st_uid + 1)
    with refuses(tmp_path / "slots", "BP_LCZ_SLOTS"):
        Devices(1, [])
    assert (tmp_path / "slots").stat().st_mode & 0o777 == 0o755


def test_a_link_in_place_of_a_slot_opens_nothing(params: Params, tmp_path: Path) -> None:
    devices = Devices(1, [])
    (tmp_path / "thesis").write_text("years of work")
    (tmp_path / "slots/cpu.0").symlink_to(tmp_path / "thesis")
    with refuses(tmp_path / "slots/cpu.0"):
        devices.try_take("validate", params)
    assert (tmp_path / "thesis").read_text() == "years of work"


def test_taking_a_slot_empties_no_file(params: Params, tmp_path: Path) -> None:
    devices = Devices(1, [])
    (tmp_path / "thesis").write_text("years of work")
    (tmp_path / "slots/cpu.0").hardlink_to(tmp_path / "thesis")  # planted while the folder was open to others
    assert devices.try_take("validate", params) is not None
    assert (tmp_path / "thesis").read_text() == "years of work"


def test_trials_spread_over_gpus_and_other_stages_stay_on_the_cpu(params: Params) -> None:
    devices = Devices(2, ["cuda:0", "cuda:1"])
    taken = [devices.try_take("train@eb_cnn-plain", params) for _ in range(4)]
    assert [slot.devices for slot in taken if slot] == [("cuda:0",), ("cuda:1",)] * 2
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in taken if slot] == ["0", "1", "0", "1"]
    assert devices.try_take("evaluate@eb_cnn-plain", params) is None
    report = devices.try_take("report", params)
    assert report is not None
    assert (report.devices, report.environment) == (("cpu",), {})


def test_a_trial_that_asks_for_the_cpu_gets_it_beside_gpus(tmp_path: Path) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["train"]["device"] = "cpu"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    slot = Devices(1, ["cuda:0"]).try_take("train@eb_cnn-plain", load_params(tmp_path / "params.yaml"))
    assert slot is not None
    assert slot.devices == ("cpu",)


def test_gpus_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert find_gpus() == ["cuda:0", "cuda:1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert find_gpus() == ["cuda:3", "cuda:5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    command.write_text("#!/bin/sh\necho no driver; exit 9\n")
    assert find_gpus() == []
    command.unlink()
    assert find_gpus() == []


def test_a_driver_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    driver(monkeypatch, tmp_path, "exec sleep 60")
    monkeypatch.setattr("flows.devices._ANSWERS_WITHIN", 0.1)
    with refuses("nvidia-smi", "CUDA_VISIBLE_DEVICES="):
        find_gpus()


@pytest.mark.parametrize(("script", "found"), [("echo 0; echo 1", ["cuda:0", "cuda:1"]), ("echo broken; exit 9", [])])
def test_a_driver_that_fails_leaves_no_gpu_and_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], script: str, found: list[str]
) -> None:
    driver(monkeypatch, tmp_path, script)
    assert find_gpus() == found
    assert ("status 9" in capsys.readouterr().err) == (not found)


def test_a_driver_that_speaks_of_something_else_names_no_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driver(monkeypatch, tmp_path, "echo No devices were found")
    with refuses("nvidia-smi", "CUDA_VISIBLE_DEVICES=0"):
        find_gpus()


def driver(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
