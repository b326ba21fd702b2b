"""Promotion and rollback against a real MLflow store in SQLite."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bp_lcz.errors import TemporaryError
from bp_lcz.records import Decision, MapContest
from bp_lcz.registry import promote as promotion
from bp_lcz.registry.connection import open_store
from bp_lcz.registry.mirror import mirror_trials
from bp_lcz.registry.models import list_models, models_table
from bp_lcz.registry.promote import decision_lines, promote_version, restore_champion
from bp_lcz.registry.register import register_best
from tests.refusals import refuses, states
from tests.registry.conftest import FinishedWorkspace

NAME = "bp-lcz-demo"


class Registry(FinishedWorkspace):
    """A workspace whose trials become versions one after the other."""

    def register(self, right: float, seed: int) -> int:
        """A new version whose predictions are right in this share."""
        self.finish("one-bp-lcz", weights_seed=seed, right=right)
        registration = register_best(self.folder, self.params, mirror_trials(self.folder, self.params))
        assert registration is not None
        return int(registration.version)

    def set_floor(self, floor: float) -> None:
        file = self.folder / "params.yaml"
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "promote": {"kappa_floor": floor}}))

    def promote(self, version: int | None = None, dry_run: bool = False) -> Decision:
        return promote_version(self.folder, NAME, version, dry_run)

    @property
    def champion(self) -> int | None:
        with open_store(self.folder) as client:
            version = client.get_registered_model(NAME).aliases.get("champion")
        return None if version is None else int(version)

    def records(self, version: int) -> list[Decision]:
        """The decision records with the run of a version, oldest first."""
        with open_store(self.folder) as client:
            run_id = client.get_model_version(NAME, str(version)).run_id
            files = sorted(file.path for file in client.list_artifacts(run_id, "decisions"))
            return [Decision.read(Path(client.download_artifacts(run_id, file))) for file in files]

    def tags(self, version: int) -> dict[str, str]:
        with open_store(self.folder) as client:
            return dict(client.get_model_version(NAME, str(version)).tags)


@pytest.fixture
def registry(workspace: FinishedWorkspace) -> Registry:
    workspace.__class__ = Registry
    assert isinstance(workspace, Registry)
    return workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> tuple[Registry, Path]:
    """A registry with the versions 1 and 2, both promoted, and 3, which is better, and a copy of its files."""
    folder, kept = tmp_path_factory.mktemp("registry"), tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        registry = Registry(folder)
        shutil.copy(empty_store, folder / "mlflow.db")
        registry.finish("one-plain", 0.7)
        for version, right in enumerate((0.6, 0.8), start=1):
            registry.register(right, seed=version)
            assert registry.promote().accepted
        registry.register(right=0.9, seed=3)
    shutil.copytree(folder, kept, dirs_exist_ok=True)
    return registry, kept


@pytest.fixture
def led(made: tuple[Registry, Path], monkeypatch: pytest.MonkeyPatch) -> Registry:
    """That registry as it was made, in the same folder, since MLflow stores absolute paths."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry, kept = made
    for name in ("mlartifacts", "outputs"):
        shutil.rmtree(registry.folder / name)
        shutil.copytree(kept / name, registry.folder / name)
    # Not as a file, since MLflow keeps connections open.
    with (
        closing(sqlite3.connect(kept / "mlflow.db")) as source,
        closing(sqlite3.connect(registry.folder / "mlflow.db")) as target,
    ):
        source.backup(target)
    return registry


def contest_of(registry: Registry, candidate: int, bounds: tuple[float, float] | None, **changed: Any) -> MapContest:
    told = {
        "reference": "zones.tif",
        "reference_sha256": "2" * 64,
        "inputs": (),
        "cells": 529,
        "unit": "block of 1 km",
        "units": 9,
        "samples": 100,
        "seed": 0,
        "candidate_sha256": registry.tags(candidate)["weights_sha256"],
        "champion_sha256": registry.tags(registry.champion or 0)["weights_sha256"],
        "candidate_kappa": 0.6,
        "champion_kappa": 0.5,
        "lead_interval": bounds,
    }
    return MapContest(**told | changed)


@pytest.mark.parametrize(
    ("bounds", "changed", "fact"),
    [
        ((0.02, 0.2), {}, None),
        ((-0.01, 0.2), {}, "[-0.010, +0.200]"),
        (None, {}, "no interval"),
        ((0.02, 0.2), {"champion_sha256": "0" * 64}, "version 2"),
        ((0.02, 0.2), {"candidate_sha256": "0" * 64}, "version 1"),
    ],
    ids=["sure", "unsure", "one block", "another champion", "another candidate"],
)
def test_maps_of_one_city_decide_in_the_place_of_the_testing_split(
    led: Registry, bounds: tuple[float, float] | None, changed: dict[str, str], fact: str | None
) -> None:
    assert not led.promote(1, dry_run=True).accepted, "on the testing split it is the worse one"
    maps = contest_of(led, 1, bounds, **changed)
    decision = promote_version(led.folder, NAME, 1, maps=maps)
    assert decision.accepted == (fact is None)
    assert led.champion == (2 if fact else 1)
    assert led.records(1)[-1].maps == maps
    assert fact is None or fact in decision.reason
    assert any("529 cells, zones.tif" in line for line in decision_lines(decision))


def test_the_first_champion_must_exceed_the_floor_alone(registry: Registry) -> None:
    registry.register(right=0.4, seed=1)
    refused = registry.promote()
    assert not refused.accepted
    assert states(refused.reason, "0.500 (promote.kappa_floor)")
    assert registry.champion is None
    registry.set_floor(0.2)
    accepted = registry.promote()
    assert accepted.accepted
    assert states(accepted.reason, "no champion")
    assert registry.champion == 1
    assert [record.accepted for record in registry.records(1)] == [False, True]
    assert registry.tags(1)["promotion"] == "accepted"

    again = registry.promote()
    assert again.accepted
    assert states(again.reason, "already")
    assert len(registry.records(1)) == 2, "promoting the champion again changes nothing"


def test_a_champion_is_replaced_only_by_a_sure_lead_and_rollbacks_walk_back(registry: Registry) -> None:
    first = registry.register(right=0.7, seed=1)
    assert registry.promote().accepted
    equal = registry.register(right=0.7, seed=2)
    refused = registry.promote()
    assert (refused.accepted, refused.version) == (False, equal)
    assert states(refused.reason, "version 1, +0.000 [+0.000, +0.000]")
    assert registry.champion == first
    [record] = registry.records(equal)
    assert record.lead.kappa_interval == (0, 0)
    assert registry.tags(equal)["promotion"] == "refused"

    better = registry.register(right=0.9, seed=3)
    planned = registry.promote(dry_run=True)
    assert planned.accepted
    assert "dry run, nothing changed" in decision_lines(planned)[0]
    assert (registry.champion, "promotion" in registry.tags(better)) == (first, False)
    accepted = registry.promote()
    assert accepted.accepted
    [record] = registry.records(better)
    low, high = record.lead.kappa_interval
    assert 0 < low <= record.lead.kappa <= high
    assert (record.lead.interval.unit, record.lead.interval.blocks) == ("city", 8)
    best = registry.register(right=1.0, seed=4)
    assert registry.promote().accepted
    assert registry.champion == best

    rows = list_models(registry.folder, NAME)
    assert [(row.version, row.aliases) for row in rows] == [
        (4, ("challenger", "champion")),
        (3, ()),
        (2, ()),
        (1, ()),
    ]
    assert rows[0].kappa == 1.0
    assert "4        @challenger,@champion  one-bp-lcz  1.000  1.000" in models_table(rows)

    assert restore_champion(registry.folder, NAME).version == registry.champion == better
    assert restore_champion(registry.folder, NAME).version == registry.champion == first
    assert registry.tags(best)["rolled_back_at"]
    assert [record.action for record in registry.records(best)] == ["promote", "rollback"]
    with refuses(NAME, "before version 1"):
        restore_champion(registry.folder, NAME)
    assert registry.champion == first

    assert registry.promote(best).accepted, "what was rolled back can be promoted again"
    assert restore_champion(registry.folder, NAME).version == first


def test_a_rollback_passes_over_versions_that_cannot_be_served(led: Registry) -> None:
    assert led.promote().accepted
    with open_store(led.folder) as client:
        client.delete_model_version(NAME, "2")
    restored = restore_champion(led.folder, NAME)
    assert restored.version == led.champion == 1
    assert list(restored.skipped) == [2]


def test_other_test_data_are_never_compared(registry: Registry) -> None:
    registry.register(right=0.6, seed=1)
    assert registry.promote().accepted
    registry.write_packed("another")
    registry.register(right=1.0, seed=2)
    refused = registry.promote()
    assert not refused.accepted
    assert states(refused.reason, "version 1")
    assert states(refused.reason, "testing split")
    digest = registry.tags(1)["testing_digest"]
    with open_store(registry.folder) as client:
        client.set_model_version_tag(NAME, "2", "testing_digest", digest)
        client.set_model_version_tag(NAME, "2", "channels", json.dumps({"sen1": [], "sen2": ["B02"]}))
    assert states(registry.promote().reason, "channels")
    assert registry.champion == 1


@pytest.mark.parametrize(
    ("key", "value", "cause"),
    [("format", "1", "(format 1, "), ("git_dirty", "perhaps", "git_dirty: ")],
)
def test_tags_of_another_format_or_damaged_ones_are_a_refusal(led: Registry, key: str, value: str, cause: str) -> None:
    with open_store(led.folder) as client:
        client.set_model_version_tag(NAME, "3", key, value)
    refused = led.promote()
    assert not refused.accepted
    assert refused.reason.startswith(f"{NAME} version 3: ")
    assert cause in refused.reason


def test_predictions_that_were_changed_in_the_artifact_store_are_found_out(registry: Registry) -> None:
    version = registry.register(right=0.3, seed=1)
    with open_store(registry.folder) as client:
        run_id = client.get_model_version(NAME, str(version)).run_id
    [file] = (registry.folder / "mlartifacts").rglob(f"{run_id}/artifacts/predictions.npz")
    arrays = dict(np.load(file))
    np.savez(file, **{**arrays, "y_pred": arrays["y_true"]})
    refused = registry.promote()
    assert not refused.accepted
    assert states(refused.reason, "predictions.npz")
    assert states(refused.reason, "sha256")


def run_of(registry: Registry, version: int) -> str:
    with open_store(registry.folder) as client:
        return str(client.get_model_version(NAME, str(version)).run_id)


def remove_run(registry: Registry, version: int) -> None:
    """As `mlflow gc` does."""
    run_id = run_of(registry, version)
    with open_store(registry.folder) as client:
        client.delete_run(run_id)
        client._tracking_client.store._hard_delete_run(run_id)


def test_a_damaged_evaluation_is_a_refusal(led: Registry) -> None:
    [file] = (led.folder / "mlartifacts").rglob(f"{run_of(led, 3)}/artifacts/evaluation.json")
    for content in (b"{", b"[]", b"{}", b"\xff"):
        file.write_bytes(content)
        refused = led.promote()
        assert not refused.accepted
        assert "evaluation.json: " in refused.reason
    assert led.champion == 2


def test_a_candidate_whose_run_was_removed_is_a_user_error(registry: Registry) -> None:
    registry.register(right=0.9, seed=1)
    remove_run(registry, 1)
    with refuses(f"{NAME} version 1", "removed"):
        registry.promote()
    assert registry.champion is None
    assert list_models(registry.folder, NAME)[0].kappa is None


def test_a_champion_whose_run_was_removed_can_neither_be_led_nor_rolled_back(led: Registry) -> None:
    remove_run(led, 2)
    refused = led.promote()
    assert not refused.accepted
    assert refused.reason.startswith(f"{NAME} version 2: its run ")
    with refuses(f"{NAME} version 2", "removed"):
        restore_champion(led.folder, NAME)
    assert led.champion == 2


def test_a_store_that_does_not_answer_decides_nothing(led: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient, MlflowException

    before = led.tags(3)

    def fail(*_: Any) -> None:
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except OSError as error:
            raise MlflowException(f"API request to http://me:hidden@host/api failed with exception {error}") from None

    for method in ("get_registered_model", "get_run"):
        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, method, fail)
            for act in (promote_version, restore_champion, list_models):
                with refuses(f"sqlite:///{led.folder}/mlflow.db", "(Connection refused)", kind=TemporaryError):
                    act(led.folder, NAME)
    assert led.champion == 2
    assert led.tags(3) == before
    assert led.records(3) == []


def test_an_artifact_store_that_does_not_answer_refuses_and_passes_over_nothing(
    led: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.artifacts

    def fail(*_: Any, **__: Any) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", fail)
    for act in (promote_version, restore_champion):
        with pytest.raises(TemporaryError, match=r"artifact store .*\(timed out\)$"):
            act(led.folder, NAME)
    assert led.champion == 2
    assert led.records(3) == []


def test_an_unknown_model_or_version_is_a_user_error(registry: Registry) -> None:
    for version in (None, 7):
        with refuses("no-model", "`make reproduce`"):
            promote_version(registry.folder, "no-model", version=version)
    registry.register(right=0.6, seed=1)
    with refuses(f"models:/{NAME}/7", f"`bp-lcz models {NAME}`"):
        registry.promote(7)
    with refuses(NAME, f"`bp-lcz promote {NAME}`"):
        restore_champion(registry.folder, NAME)


def test_what_a_killed_promotion_leaves_is_made_good(led: Registry) -> None:
    with open_store(led.folder) as client:  # killed after the tag, before the alias
        client.set_registered_model_tag(NAME, "champions", "[1, 2, 3]")
    assert restore_champion(led.folder, NAME).version == 1
    with open_store(led.folder) as client:
        assert client.get_registered_model(NAME).tags["champions"] == "[1]"


def test_a_champion_that_another_machine_made_meanwhile_is_not_overwritten(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(right=0.8, seed=1)
    registry.register(right=0.9, seed=2)
    judge = promotion._judge

    def judge_slowly(client: Any, *arguments: Any) -> str:
        reason = judge(client, *arguments)
        client.set_registered_model_alias(NAME, "champion", "1")
        return reason

    monkeypatch.setattr(promotion, "_judge", judge_slowly)
    refused = registry.promote()
    assert not refused.accepted
    assert states(refused.reason, "changed meanwhile")
    assert registry.champion == 1
    assert [record.accepted for record in registry.records(2)] == [False]


@pytest.mark.slow
def test_of_two_equal_candidates_promoted_at_once_one_wins(registry: Registry) -> None:
    registry.register(right=0.6, seed=1)
    assert registry.promote().accepted
    candidates = [registry.register(right=0.9, seed=seed) for seed in (2, 3)]
    command = [sys.executable, "-W", "ignore", "-m", "bp_lcz.cli", "promote", NAME, "--version"]
    processes = [
        subprocess.Popen(
            [*command, str(version)], cwd=registry.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for version in candidates
    ]
    outputs = [process.communicate() for process in processes]
    statuses = [process.returncode for process in processes]
    assert sorted(statuses) == [0, 1], outputs
    winner, loser = candidates[statuses.index(0)], candidates[statuses.index(1)]
    assert registry.champion == winner
    assert (
        f"error: {NAME} version {loser}: not promoted: the lead in kappa over version {winner}"
        in outputs[statuses.index(1)][1]
    )
