"""The wheel and the source distribution, built from a copy of the checkout, and the wheel at work elsewhere."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from bp_lcz.model.checkpoint import load_classifier, write_checkpoint
from tests.conftest import ROOT
from tests.model.networks import network_of, trial_of
from tests.records import described
from tests.so2sat.patches import random_patches, write_dataset


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints, without the settings by which this environment would reach into another."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_", "VIRTUAL"))}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """Files of the checkout that git does not ignore."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def built(tmp_path_factory, tracked) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", cwd=copy)
    return copy / "dist"


@pytest.fixture(scope="module")
def scripts(tmp_path_factory, built) -> Path:
    """The commands of a new environment with the wheel, which finds other packages in the environment of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    wheel = next(built.glob("*.whl"))
    run(sys.executable, "-m", "pip", "--python", folder, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # A path in a .pth file comes last, and the .pth files in it, such as that of an editable install, are not read.
    installed = next(folder.glob("lib/python*/site-packages"))
    (installed / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_version_is_that_of_the_citation_and_of_the_newest_section_of_the_changelog():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    sections = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert next(name for name in sections if name != "Unreleased") == version


def test_the_wheel_has_the_package_and_nothing_else(built, tracked):
    package = {name.removeprefix("src/") for name in tracked if name.startswith("src/")}
    names = ZipFile(next(built.glob("*.whl"))).namelist()
    assert {name for name in names if ".dist-info/" not in name} == package


def test_the_source_distribution_has_the_package_and_what_builds_it(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {Path(*Path(member.name).parts[1:]) for member in archive if member.isfile()}
    outside = {str(name) for name in names if name.parts[0] != "src"}
    assert outside == {"LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}


def test_the_installed_commands_are_those_of_the_wheel(scripts, tmp_path):
    where = run(scripts / "python", "-c", "import bp_lcz, bp_lcz.cli; print(bp_lcz.__path__[0])", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(scripts.parent)
    assert "predict" in run(scripts / "bp-lcz", "--help", cwd=tmp_path)


def test_the_installed_package_predicts_outside_a_checkout(scripts, tmp_path):
    (tmp_path / "model").mkdir()
    write_checkpoint(tmp_path / "model", network_of("eb_cnn", "bp-lcz"), described(trial_of("eb_cnn", "bp-lcz")))
    write_dataset(tmp_path, patches={"city": 5})
    run(scripts / "bp-lcz", "predict", "model", "city.h5", "--out", "p.parquet", cwd=tmp_path)
    table = pq.read_table(tmp_path / "p.parquet")
    found = np.stack([table[f"p_{number}"].to_numpy() for number in range(1, 18)], axis=1)
    sen1, sen2, _ = random_patches(5)
    np.testing.assert_allclose(found, load_classifier(tmp_path / "model").predict_proba(sen1, sen2), rtol=1e-5)


BLOCKED = """
import re, sys
from importlib.metadata import packages_distributions, requires

def name(text):
    return re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", text)[0]).lower()

base = {name(text) for text in requires("bp-lcz") if "extra ==" not in text}
extras = {name(text) for text in requires("bp-lcz") if "extra ==" in text} - base - {"bp-lcz"}
owners = {module: {name(each) for each in packages} for module, packages in packages_distributions().items()}
blocked = {module for module, names in owners.items() if names & extras and not names & base}
assert {"mlflow", "dvc", "prefect", "lightning", "great_expectations"} <= blocked

class Absent:
    def find_spec(self, module, path=None, target=None):
        if module.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)

sys.meta_path.insert(0, Absent())
"""
"""Begins a program in which the packages of the extras are absent."""


@pytest.mark.parametrize(
    "module",
    [
        "serving.predict",
        "serving.server",
        "serving.client",
        "maps.map",
        "scenes.tile",
        "scoring.score",
        "model.pretrained",
    ],
)
def test_maps_predictions_and_serving_need_no_extra(scripts, tmp_path, module):
    run(scripts / "python", "-W", "ignore", "-c", f"{BLOCKED}\nimport bp_lcz.{module}", cwd=tmp_path)


def test_a_command_that_needs_an_extra_names_it(scripts, tmp_path):
    program = f"{BLOCKED}\nsys.argv[1:] = ['models', 'name']\nfrom bp_lcz.cli import main; main()"
    done = subprocess.run(
        [scripts / "python", "-W", "ignore", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "bp-lcz[train]" in line
