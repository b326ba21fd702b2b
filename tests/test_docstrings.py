"""The examples in docstrings are run."""

import doctest
import importlib

import numpy as np
import pytest

from bp_lcz.patches.pack import pack
from tests.conftest import ROOT
from tests.patches.test_pack import summary
from tests.so2sat.patches import write_dataset

SOURCE = ROOT / "src"
WITH_EXAMPLES = sorted(file.relative_to(SOURCE) for file in SOURCE.rglob("*.py") if ">>> " in file.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what the examples read: a data set, the same packed, and predictions."""
    folder = tmp_path_factory.mktemp("examples")
    pack(write_dataset(folder / "data/demo"), summary(), folder / "outputs/packed")
    np.savez(folder / "predictions.npz", y_true=[1, 2, 17, 17], y_pred=[1, 2, 17, 6])
    return folder


@pytest.mark.parametrize("file", WITH_EXAMPLES, ids=str)
def test_examples_give_what_they_show(file, folder, monkeypatch):
    monkeypatch.chdir(folder)
    module = importlib.import_module(".".join(file.with_suffix("").parts))
    failed, tried = doctest.testmod(module, optionflags=doctest.REPORT_NDIFF)
    assert (failed, tried) == (0, (SOURCE / file).read_text().count(">>> "))
