"""Artifacts of Prefect name files in words: browsers block links from a server's page to a file."""

from pathlib import Path

import pytest

from bp_lcz.paths import CLAIMS, SUMMARY
from bp_lcz.records import CheckedClaim, Claims
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


def test_the_artifact_of_claims_shows_those_that_are_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    untested = CheckedClaim(
        name="other",
        claim="other backbones",
        where=None,
        metric=None,
        paper=None,
        reproduced=(),
        difference=None,
        interval=None,
        lower_bound=False,
        verdict="not comparable",
        direction=None,
        note="no such trials",
    )
    found = {"name": "lift", "claim": "better", "difference": 0.01, "interval": (-0.01, 0.03), "direction": "undecided"}
    about = small_summary().model_dump(include={"dataset", "source", "kind", "leakage", "release"})
    (tmp_path / CLAIMS).parent.mkdir(parents=True)
    Claims(**about, method=(), claims=(untested, untested.model_copy(update=found))).write(tmp_path / CLAIMS)
    shown: list[tuple[list[dict[str, str]], str]] = []
    monkeypatch.setattr(
        artifacts, "create_table_artifact", lambda rows, key, description: shown.append((rows, description))
    )
    artifacts.show_claims(tmp_path)
    ((rows, description),) = shown
    assert [(row["claim"], row["difference"], row["direction here"]) for row in rows] == [
        ("better", "+.010 [-.010, .030]", "undecided")
    ]
    assert "1 of 2" in description
