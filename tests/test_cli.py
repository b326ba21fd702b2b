"""The command line as a user meets it."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bp_lcz.cli import app
from bp_lcz.errors import UsageError, UserError
from tests.conftest import ROOT
from tests.refusals import refuses

STAGES = ("simulate", "validate", "pack", "prompts", "train", "evaluate", "report", "verify")

OTHERS = (
    *("bytes", "score", "choose", "pretrained", "judge", "split", "tile", "releases", "download", "workspace", "bench"),
    *("so-far", "aa", "models", "promote", "rollback", "serve", "predict", "map"),
)


RATES = ("false_verdicts", "power")


def bp_lcz(*arguments: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bp_lcz.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
    )


def test_help_lists_every_stage_and_loads_no_torch() -> None:
    result = bp_lcz("--help")
    assert result.returncode == 0
    assert all(stage in result.stdout for stage in STAGES)
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, bp_lcz.cli; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "False"


@pytest.mark.parametrize("arguments", [["map", "model", "--s2", ""], ["map", "model", "--s2="]])
def test_an_empty_argument_is_refused_by_its_option(arguments: list[str]) -> None:
    result = bp_lcz(*arguments)
    assert result.returncode == UsageError.status
    assert result.stderr.startswith("error: --s2: ")


@pytest.mark.parametrize(
    ("name", "value"), [("TQDM_MININTERVAL", "x"), ("TQDM_NCOLS", ""), ("TQDM_BAR_FORMAT", "{no}")]
)
def test_settings_of_progress_bars_that_are_none_are_named(name: str, value: str) -> None:
    result = bp_lcz("tile", "--s2", "none.tif", "--out", "none", **{name: value})
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert name in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["aa", "--draws", "100", "--trials", "x", "--save"],
        ["aa", "--draws", "100", "--figure"],
        ["bench", "--rows", "gather", "--out"],
        ["map", "model", "--s2", "s2.tif", "--out"],
        ["predict", "model", "testing.h5", "--out"],
        ["pretrained", "sen2lcz-mf", "--file", "weights.hdf5", "--out"],
        ["split", "folder", "--out"],
        ["tile", "--s2", "s2.tif", "--out"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("below", ["sub", "sub/sub"])
def test_an_output_below_a_file_is_refused_before_anything_is_read(
    arguments: list[str], below: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / below
    with refuses(out, tmp_path / "file"):
        CliRunner().invoke(app, [*arguments, str(out)], catch_exceptions=False)


@pytest.mark.parametrize("command", [["map", "model"], ["tile"]], ids=" ".join)
def test_a_missing_scene_is_named_before_anything_is_read(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "s2.tif").touch()
    scenes = ["--s2", str(tmp_path / "s2.tif"), "--s1", str(tmp_path / "s1.tif")]
    with refuses(tmp_path / "s1.tif"):
        CliRunner().invoke(app, [*command, *scenes, "--out", str(tmp_path / "out")], catch_exceptions=False)


@pytest.mark.parametrize("command", [*STAGES, *OTHERS])
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: bp-lcz {command}" in result.stdout


@pytest.mark.parametrize(
    "command",
    [
        *("bytes", "score", "choose", "so-far", "aa", "prove", "releases"),
        *("verify", "models", "promote", "rollback", "predict", "map"),
    ],
)
def test_what_a_script_reads_is_there_as_json_under_one_option(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "160"})
    assert "--json" in result.stdout
    assert "Print all details as JSON, for scripts." in result.stdout


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["score", "p.npz", "--json"], {"patches", "cautions", "scores"}),
        (["bytes", "--json"], {"same", "stages", "others", "why_not"}),
        (["aa", str(ROOT / "docs/seeds.csv"), "--draws", "100", "--json"], {"effects", "seeds", "draws", *RATES}),
    ],
)
def test_json_stands_alone_and_holds_what_the_text_tells(
    arguments: list[str], keys: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("p.npz", y_true=np.array([1, 2, 2]), y_pred=np.array([1, 2, 3]))
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert set(found) == keys
    if arguments[0] == "score":
        assert found["patches"] == 3
        assert found["scores"]["oa"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("environment", "colours"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals_that_want_them(environment: dict[str, str], colours: bool) -> None:
    ours, theirs = pty.openpty()
    settings = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    subprocess.run(
        [sys.executable, "-m", "bp_lcz.cli", "--help"],
        stdout=theirs,
        check=True,
        env={**settings, "PYTHONPATH": str(ROOT / "src"), "TERM": "xterm-256color", **environment},
    )
    os.close(theirs)
    assert (re.search(rb"\x1b\[[0-9;]*3[0-7]", os.read(ours, 65536)) is not None) == colours
    assert "\x1b" not in bp_lcz("--help").stdout  # into a pipe


def test_the_help_of_validate_says_how_to_check_data_of_ones_own() -> None:
    assert "bp-lcz workspace NAME --dataset DIR" in CliRunner().invoke(app, ["validate", "--help"]).stdout


def test_a_user_error_is_one_line_without_traceback(tmp_path: Path) -> None:
    result = bp_lcz("validate", folder=tmp_path)
    assert result.returncode == 1
    assert result.stderr == "error: params.yaml: not found; run inside a BP-LCZ checkout or workspace\n"


def command_that_raises(error: str) -> subprocess.CompletedProcess[str]:
    program = f"import atexit, errno, os, resource\nfrom bp_lcz import cli, errors\ndef app(): raise {error}\ncli.app = app\ncli.main()"
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("OSError(errno.EROFS, 'Read-only file system', '/ro/x')", "error: /ro/x: read-only file system"),
        ("PermissionError(errno.EACCES, 'Permission denied', '/ro/x')", "error: /ro/x: permission denied"),
        (
            "'d\\udcff.h5'.encode()",
            "error: d\\udcff.h5: a name with bytes that are not UTF-8, which a library here refuses; rename it",
        ),
    ],
)
def test_what_the_system_refuses_is_one_line(error: str, line: str) -> None:
    result = command_that_raises(error)
    assert (result.returncode, result.stderr.splitlines()) == (1, [line])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("OSError(errno.ENOSPC, '')", "no space left on the disk; free some and run again"),
        ("OSError(errno.EMFILE, '', 'a.h5')", "too many open files; `ulimit -n` allows more"),
        ("OSError('unable to open file (errno = 27, message = File too large)')", "file too large; `ulimit -f`"),
        ("ImportError('x.so: failed to map segment from shared object')", "cannot allocate memory; free memory"),
        ('RuntimeError("can\'t start new thread")', "cannot allocate memory; free memory"),
        ("MemoryError()", "cannot allocate memory; free memory, or let `ulimit -v` and `ulimit -u` allow more"),
        (
            "(resource.setrlimit(resource.RLIMIT_AS, (2**40, -1)), SystemError('error return without exception set'))[1]",
            "cannot allocate memory; free memory",
        ),
    ],
)
def test_a_limit_of_the_machine_is_one_line_even_if_hdf5_cannot_end_with_it(error: str, line: str) -> None:
    result = command_that_raises(f"(atexit.register(os.abort), {error})[1]")
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {ROOT}: {line}")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "error",
    [
        "RuntimeError('CUDA error: unspecified launch failure\\nCUDA kernel errors might be reported later')",
        "RuntimeError('No CUDA GPUs are available')",
    ],
)
def test_a_gpu_that_is_lost_is_one_line_even_if_its_memory_cannot_be_freed(error: str) -> None:
    result = command_that_raises(f"(atexit.register(os.abort), {error})[1]")
    assert result.returncode == 71
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: GPU: lost (")
    assert "kernel errors" not in line


def test_a_kernel_that_fails_is_a_fault_of_the_program() -> None:
    assert command_that_raises("RuntimeError('CUDA error: device-side assert triggered')").returncode == 70


@pytest.mark.parametrize("command", [("map", "model"), ("tile",)], ids=["map", "tile"])
@pytest.mark.parametrize(
    "option",
    [("--s1-units", "db"), ("--s1-filter", "lee"), ("--s1-bands", "VV,VH"), ("--mask-values", "3,8")],
    ids=lambda option: option[0],
)
def test_an_option_about_a_file_that_is_not_given_is_refused(command: tuple[str, ...], option: tuple[str, str]) -> None:
    error = CliRunner().invoke(app, [*command, "--s2", __file__, "--out", "out", *option]).exception
    assert isinstance(error, UsageError)
    assert error.where == option[0]


def test_a_map_needs_a_folder_unless_it_is_a_dry_run() -> None:
    error = CliRunner().invoke(app, ["map", "model", "--s2", __file__]).exception
    assert isinstance(error, UsageError)
    assert error.where == "--out"
    error = CliRunner().invoke(app, ["map", "no/model", "--s2", __file__, "--dry-run"]).exception
    assert isinstance(error, UserError)
    assert not isinstance(error, UsageError)
    assert "no/model" in error.where


@pytest.mark.parametrize(
    ("kind", "status"),
    [("UserError", 1), ("UsageError", 2), ("BusyError", 69), ("TemporaryError", 75), ("DeviceError", 71)],
)
def test_the_exit_status_tells_the_kind_of_an_error(kind: str, status: int) -> None:
    result = command_that_raises(f"errors.{kind}('file', 'cause')")
    assert (result.returncode, result.stderr.splitlines()) == (status, ["error: file: cause"])


def test_a_fault_of_the_program_has_a_status_of_its_own_and_a_traceback() -> None:
    result = command_that_raises("KeyError('lost')")
    assert result.returncode == 70
    assert result.stderr.splitlines()[0].startswith("Traceback")
    assert result.stderr.splitlines()[-1] == "KeyError: 'lost'"


@pytest.mark.parametrize("command", [("split", "a"), ("tile", "--s1", "a.tif", "--s2", "b.tif")], ids=["split", "tile"])
def test_a_seed_that_none_can_be_is_a_usage_error(command: tuple[str, ...], tmp_path: Path) -> None:
    result = bp_lcz(*command, "--out", "out", "--seed", "-1", folder=tmp_path)
    assert result.returncode == 2
    assert "'--seed'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("options", "line"),
    [(["--growth", "--large"], "error: bench: --growth "), (["--threads", "100000"], "error: bench: --threads ")],
)
def test_options_that_contradict_each_other_or_the_machine_are_refused(options: list[str], line: str) -> None:
    result = bp_lcz("bench", "--quick", *options)
    assert result.returncode == 1
    assert result.stderr.startswith(line)


def test_an_unknown_trial_is_a_user_error(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    result = bp_lcz("train", "nothing", folder=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: params.yaml: ")
    assert "'nothing'" in result.stderr


@pytest.mark.parametrize("switch", ["DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "DVC_NO_ANALYTICS"])
def test_no_tool_reports_home_unless_the_user_asks(switch: str) -> None:
    script = f"import os, bp_lcz; print(os.environ[{switch!r}])"
    outer = {key: value for key, value in os.environ.items() if key != switch}
    for environment, expected in ((outer, "true"), ({**outer, switch: "asked"}, "asked")):
        result = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        )
        assert result.stdout.strip() == expected


def test_a_map_of_labels_without_labels_is_not_passed_over(tmp_path: Path) -> None:
    command = ["tile", "--s2", __file__, "--out", str(tmp_path / "out"), "--label-map", "map.json"]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, UserError)
    assert result.exception.where == "--label-map"


@pytest.mark.parametrize(
    ("labels", "options", "where"),
    [
        ("areas.kml", ("--split", "block"), "--split block"),
        ("areas.kml", ("--min-share", ".9"), "--min-share"),
        ("areas.kml", ("--block-size", "700"), "--block-size"),
        ("areas.kml", ("--overlaps", "none"), "--overlaps none"),
        ("lcz.tif", ("--split", "polygon"), "--split polygon"),
        ("lcz.tif", ("--field", "LCZ"), "--field"),
        ("lcz.tif", ("--overlaps", "leave-out"), "--overlaps"),
    ],
)
def test_options_about_other_labels_than_those_given_are_refused(
    tmp_path: Path, labels: str, options: tuple[str, str], where: str
) -> None:
    command = ["tile", "--s2", __file__, "--out", str(tmp_path / "out"), "--labels", labels, *options]
    error = CliRunner().invoke(app, command).exception
    assert isinstance(error, UserError)
    assert error.where == where
