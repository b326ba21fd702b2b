"""The Makefile on machines of several kinds, and the targets that others name."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
BROKEN = "#!/bin/sh\nexit 127\n"
PYTHON = """#!/bin/sh
test "$1" = -c && exit
test "$2" = venv && mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
echo "$0 $*" >> calls
env >> environment
"""


def install(folder: Path, pythons: dict[str, str], **environment: str) -> subprocess.CompletedProcess[str]:
    """`make install` in a folder, on a machine that has these scripts and little else."""
    (folder / "bin").mkdir()
    for name, script in pythons.items():
        (folder / "bin" / name).write_text(script)
        (folder / "bin" / name).chmod(0o755)
    for name in ("cat", "cp", "env", "mkdir", "rm", "sed", "touch"):
        (folder / "bin" / name).symlink_to(shutil.which(name))
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "constraints-runtime.txt"):
        shutil.copy(ROOT / name, folder)
    make = shutil.which("make")
    assert make is not None
    return subprocess.run(
        [make, "install"],
        cwd=folder,
        env={"PATH": str(folder / "bin"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("pythons", "taken"),
    [
        ({"python3.11": PYTHON, "python3.12": PYTHON}, "python3.11"),
        ({"python3.12": PYTHON}, "python3.12"),
        ({"python3.11": BROKEN, "python3.12": PYTHON}, "python3.12"),
    ],
    ids=["both", "only-3.12", "3.11-is-a-name-that-does-not-run"],
)
def test_the_environment_is_made_by_a_python_that_is_there(tmp_path, pythons, taken):
    done = install(tmp_path, pythons)
    assert done.returncode == 0, done.stderr
    made, installed, _ = (tmp_path / "calls").read_text().splitlines()
    assert made.endswith(f"{taken} -m venv .venv")
    assert installed.startswith(".venv/bin/python -m pip install ")
    assert (tmp_path / ".venv/.installed").exists()


def test_what_pip_says_is_shown_in_short_and_its_failure_ends_the_installation(tmp_path):
    output = """Collecting torch==2.13.0
Processing /wheels/torch-2.13.0.whl
  Downloading torch-2.13.0.whl (900.1 MB)
  Downloading six-1.17.0.whl (11 kB)
WARNING: Location 'file:///wheels' is ignored: it is neither a file nor a directory.
WARNING: Retrying (Retry(total=4)) after connection broken
ERROR: Could not install packages"""
    done = install(
        tmp_path, {"python3.11": f"{PYTHON}test $2 = pip && cat >&2 <<END && exit 1\n{output}\nEND\nexit 0\n"}
    )
    assert done.returncode != 0
    assert not (tmp_path / ".venv/.installed").exists()
    first, *told = done.stdout.splitlines()
    assert first.startswith("building .venv")
    assert told == [output.splitlines()[2], *output.splitlines()[-2:]]


def test_a_machine_without_python_is_told_which_to_install(tmp_path):
    done = install(tmp_path, {})
    assert done.returncode != 0
    assert done.stderr.startswith("error: python3.11 not found")
    assert not (tmp_path / ".venv").exists()


def test_settings_that_would_work_elsewhere_or_otherwise_reach_no_command(tmp_path):
    switches = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONWARNINGS", "PYTHONOPTIMIZE")
    places = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "CDPATH")
    elsewhere = dict.fromkeys(switches + places, "/elsewhere")
    other = {"PIP_USER": "1", "PIP_INDEX_URL": "https://mirror"}
    assert install(tmp_path, {"python3.11": PYTHON}, **elsewhere, **other).returncode == 0
    seen = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines())
    assert not elsewhere.keys() & seen
    assert (seen["PIP_USER"], seen["PIP_INDEX_URL"], seen["PYTHONNOUSERSITE"]) == ("0", "https://mirror", "1")


SERVERS = {"server": "start prefect", "mlflow": "start mlflow", "server-stop": "stop"}
HOSTILE: dict[str, dict[str, str]] = {
    "nothing": {},
    "a locale that is not there": {"LC_ALL": "xx_YY.UTF-8"},
    "no home": {"HOME": "/nowhere", "TMPDIR": "/no where"},
    "a shell that is not there": {"SHELL": "/bin/none"},
    "side by side": {"MAKEFLAGS": "-j4"},
    "names of its own": {"VENV": "/elsewhere", "BIN": "/elsewhere", "INSTALLED": "/elsewhere"},
}


@pytest.mark.parametrize("environment", HOSTILE.values(), ids=HOSTILE)
def test_targets_run_the_tools_of_their_clone_in_any_environment(tmp_path, environment):
    folder = tmp_path / "my städte"
    (folder / ".venv/bin").mkdir(parents=True, mode=0o700)
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("pyproject.toml", "constraints.txt", "constraints-runtime.txt", ".venv/.installed"):
        (folder / name).touch()
    for name in ("python", "sphinx-build"):
        tool = folder / ".venv/bin" / name
        tool.write_text('#!/bin/sh\necho "$0 $PYTHONUTF8 $LC_ALL $#" "$@"\n')
        tool.chmod(0o755)
    make = shutil.which("make")
    assert make is not None

    def said(*command: str) -> str:
        return subprocess.run(
            [make, *command],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        ).stdout.decode()

    assert set(re.findall(r"^  make ([a-z-]+) ", said("help"), re.MULTILINE)) == TARGETS
    locale = environment.get("LC_ALL", "")
    for target, words in SERVERS.items():
        assert said(target) == f".venv/bin/python 1 {locale} {2 + len(words.split())} -m flows.servers {words}\n"
    assert said("worker", "POOL=a b") == f".venv/bin/python 1 {locale} 5 -m flows.operate worker --pool a b\n"
    assert ".venv/bin/sphinx-build 1 C 5 " in said("docs")
    said("clean")


def test_continuous_integration_runs_the_same_targets_everywhere():
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]
    hosted = [step["run"] for step in job["steps"] if "run" in step]
    assert hosted == re.findall(r"^make .*", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert {command.removeprefix("make ") for command in hosted} <= TARGETS
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in job["steps"] if "uses" in step)


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md"])
def test_every_target_that_the_documentation_names_exists(file):
    named = set(re.findall(r"`make ([a-z-]+)", (ROOT / file).read_text()))
    assert named
    assert named <= TARGETS


@pytest.mark.parametrize("is_committed", [True, False])
def test_clean_leaves_the_lock_that_is_committed_and_no_other(tmp_path, is_committed):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=T", "-c", "user.email=t@example.org"]
    shutil.copy(ROOT / "Makefile", tmp_path)
    lock = tmp_path / "dvc.lock"
    lock.write_text("of the commit\n")
    files = ["Makefile", *["dvc.lock"] * is_committed]
    for command in (["init", "-q"], ["add", *files], ["commit", "-qm", "state"]):
        subprocess.run([*git, *command], check=True)
    lock.write_text("of a run\n")
    for _ in range(2):  # again, with nothing left to clean
        subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
        assert lock.exists() == is_committed
        assert not is_committed or lock.read_text() == "of the commit\n"


def test_clean_touches_no_other_repository(tmp_path):
    for folder in (tmp_path / "here", tmp_path / "other"):
        folder.mkdir()
        shutil.copy(ROOT / "Makefile", folder)
        git = ["git", "-C", str(folder), "-c", "user.name=T", "-c", "user.email=t@example.org"]
        (folder / "dvc.lock").write_text("of the commit\n")
        for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "state"]):
            subprocess.run([*git, *command], check=True)
        (folder / "dvc.lock").write_text("of a run\n")
    other = {
        "GIT_DIR": str(tmp_path / "other/.git"),
        "GIT_WORK_TREE": str(tmp_path / "other"),
        "GIT_INDEX_FILE": str(tmp_path / "other/.git/index"),
    }
    environment = os.environ | other
    subprocess.run(["make", "clean"], cwd=tmp_path / "here", env=environment, check=True, capture_output=True)
    assert (tmp_path / "here/dvc.lock").read_text() == "of the commit\n"
    assert (tmp_path / "other/dvc.lock").read_text() == "of a run\n"


@pytest.mark.parametrize("fault", ["no git", "damaged", "archive"])
def test_clean_removes_no_lock_of_which_git_cannot_tell(tmp_path, fault):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "dvc.lock").touch()
    (tmp_path / "outputs").mkdir()
    if fault != "archive":
        (tmp_path / ".git").mkdir()
    environment = {"PATH": os.environ["PATH"], "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    if fault == "no git":
        (tmp_path / "bin").mkdir()
        for name in ("awk", "rm", "sh"):
            (tmp_path / "bin" / name).symlink_to(shutil.which(name))
        environment["PATH"] = str(tmp_path / "bin")
    make = shutil.which("make")
    assert make is not None
    done = subprocess.run([make, "clean"], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (done.returncode == 0) == (fault == "archive")
    assert (tmp_path / "dvc.lock").exists()
    assert not (tmp_path / "outputs").exists()
