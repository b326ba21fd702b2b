"""Artifacts of Prefect name files in words: browsers block links from a server's page to a file."""

from pathlib import Path

import pytest

from bp_lcz.paths import SUMMARY
from flows import artifacts
from tests.records import small_summary


def test_artifacts_hold_no_link_that_a_browser_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr(artifacts, "create_markdown_artifact", lambda text, **_: texts.append(text))
    (tmp_path / SUMMARY).parent.mkdir(parents=True)
    small_summary().write(tmp_path / SUMMARY)
    artifacts.show_validation(tmp_path)
    artifacts.show_figures(tmp_path)
    assert len(texts) == 2
    for text in texts:
        assert f"`{tmp_path}/" in text
        assert "file:" not in text
        assert "](" not in text
