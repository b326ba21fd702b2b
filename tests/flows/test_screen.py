"""What a run shows and what goes into its log."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from flows.screen import Screen
from tests.conftest import ROOT


def test_lines_and_warnings_are_shown_and_the_log_goes_to_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    screen, logger = Screen(), logging.getLogger("of a stage")
    logger.setLevel(logging.INFO)
    before = logging.getLogger().handlers
    with screen.opened(tmp_path / "logs/run.log"):
        screen.begin("train@a", 3)
        logger.info("epoch 1/3")
        screen.reach("train@a", 1)
        logger.warning("MLflow is away")
        logger.error("failed")
        screen.end("train@a")
        screen.tell("1/2  train@a: ran [in] 3 s")
    shown = capsys.readouterr().err.splitlines()
    assert shown == ["warning: MLflow is away", "1/2  train@a: ran [in] 3 s"]
    logged = (tmp_path / "logs/run.log").read_text()
    assert all(text in logged for text in ("epoch 1/3", "MLflow is away", "failed"))
    assert logging.getLogger().handlers == before


def test_a_warning_of_dvc_is_shown_once(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from flows.screen import Screen; import logging\n"
        "with Screen().opened(Path(sys.argv[1])): logging.getLogger('dvc.rwlock').warning('a lock was left')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "run.log"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert (ended.stdout, ended.stderr) == ("", "warning: a lock was left\n")
    assert (tmp_path / "run.log").read_text().count("a lock was left") == 1


def test_a_flow_on_a_worker_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.begin("train@a", None)
    screen.reach("train@a", 1)
    screen.end("train@a")
    screen.tell("a line")
    assert capsys.readouterr() == ("", "")
