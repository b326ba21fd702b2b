import hashlib
import subprocess
from pathlib import Path

import pytest

from bp_lcz.registry import naming
from bp_lcz.registry.naming import model_name


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC checkout with a folder so2sat whose small files pass for the official ones."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(f"[core]\n    site_cache_dir = {tmp_path}/site\n")
    (tmp_path / "so2sat").mkdir()
    facts = {}
    for name in naming.SO2SAT_V2:
        content = name.encode()
        (tmp_path / "so2sat" / name).write_bytes(content)
        facts[name] = (len(content), hashlib.md5(content, usedforsecurity=False).hexdigest())
    monkeypatch.setattr(naming, "SO2SAT_V2", facts)
    return tmp_path


def test_the_official_bytes_are_bp_lcz_in_any_folder(official: Path) -> None:
    assert model_name(official, "so2sat") == "bp-lcz"
    (official / "so2sat").rename(official / "elsewhere")
    assert model_name(official, str(official / "elsewhere")) == "bp-lcz"


def test_other_bytes_of_the_same_size_are_another_data_set(official: Path) -> None:
    file = official / "so2sat/testing.h5"
    file.write_bytes(file.read_bytes()[::-1])
    assert model_name(official, "so2sat") == "bp-lcz-so2sat"


def test_a_missing_split_is_another_data_set(official: Path) -> None:
    (official / "so2sat/validation.h5").unlink()
    assert model_name(official, "so2sat") == "bp-lcz-so2sat"


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("data/demo", "bp-lcz-demo"),
        ("/some/where/real_mini", "bp-lcz-real_mini"),
        ("data/demo/", "bp-lcz-demo"),
        ("/data/my set: v2", "bp-lcz-my-set-v2"),
    ],
)
def test_any_other_data_set_is_named_after_its_folder(tmp_path: Path, root: str, name: str) -> None:
    assert model_name(tmp_path, root) == name
