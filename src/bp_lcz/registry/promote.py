"""Which version of a model is served: the alias ``champion`` moves only to a version that is measurably better.

A candidate must exceed a fixed floor of kappa and, where there is a champion, lead it on the same testing split with
the whole 95 % interval of the paired difference above zero. What decides is read from MLflow: the predictions of both
runs, whose digests the database holds. Nothing of a model is executed.

The champions so far are a list in a tag of the registered model, oldest first; the alias alone says who serves now.
Whatever a killed process leaves of the two, the list up to the alias is right.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Integer

import bp_lcz
from bp_lcz.errors import TemporaryError, UserError, one_line
from bp_lcz.params import PARAMS_FILE, load_params
from bp_lcz.records import Evaluation, Interval
from bp_lcz.registry.connection import is_missing, open_store
from bp_lcz.registry.fetch import fetch_artifact, fetch_classifier
from bp_lcz.registry.mirror import PREDICTIONS
from bp_lcz.registry.register import ALIAS as CHALLENGER
from bp_lcz.scoring.metrics import confusion_matrix, defined, kappa
from bp_lcz.scoring.significance import LEVEL, bootstrap_differences, bootstrap_intervals

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

CHAMPION = "champion"
RECORDS = "decisions"
"""Folder of the decision records among the artifacts of a run."""

HISTORY_TAG = "champions"
_MOST_HISTORY = 200

_COMPARED = {"dataset": "data set", "channels": "channels", "testing_digest": "testing split"}
"""Tags that must agree before two versions are compared."""


@dataclass(frozen=True)
class Decision:
    """What a promotion or a rollback came to.

    Attributes:
        accepted: whether the version is the champion now, or would be without ``--dry-run``.
        reason: why, in one line.
        name: of the registered model.
        version: that was judged or, by a rollback, restored.
        record: what is kept as JSON; see docs/serving.md.
        dry_run: nothing was changed.
    """

    accepted: bool
    reason: str
    name: str
    version: int
    record: Mapping[str, Any] = field(default_factory=dict)
    dry_run: bool = False

    def lines(self) -> list[str]:
        """The decision as plain text."""
        verdict = ("champion" if self.accepted else "refused") + " (dry run, nothing changed)" * self.dry_run
        lines = [f"{self.name} version {self.version}: {verdict}", f"reason      {self.reason}"]
        candidate, difference = self.record.get("candidate"), self.record.get("difference")
        if candidate:
            lines.append(f"kappa       {_number(candidate['kappa'])} {_interval(candidate['kappa_interval'])}")
            lines.append(f"floor       {self.record['kappa_floor']:.3f}")
        if difference:
            champion = self.record["champion"]
            lines.append(f"champion    version {champion['version']}, kappa {_number(champion['kappa'])}")
            lines.append(
                f"difference  {_number(difference['kappa'], '+')} {_interval(difference['kappa_interval'], '+')} "
                f"by {difference['unit']}"
            )
        return lines


@dataclass(frozen=True)
class _Predictions:
    true: Integer[np.ndarray, "patch"]
    predicted: Integer[np.ndarray, "patch"]
    block: Integer[np.ndarray, "patch"]


class _RefusedError(Exception):
    """Why a candidate does not become the champion."""


def promote_version(workspace: Path, name: str, version: int | None = None, dry_run: bool = False) -> Decision:
    """Make a version the champion if it is good enough, and record the decision with its run.

    With a store in a file, promotions of one clone run one after the other. With an MLflow server, which cannot
    compare and set, the champion is read again right before the alias moves; between the two a second promotion of
    another machine can still slip in.

    Args:
        workspace: checkout or workspace, whose ``params.yaml`` holds the floor and the resampling.
        name: of the registered model.
        version: to promote; by default the one with the alias ``challenger``.
        dry_run: decide and change nothing.

    Returns:
        The decision, accepted too if the version is the champion already, which records nothing.

    Raises:
        TemporaryError: if MLflow or its artifact store does not answer; nothing is decided then.
        UserError: if there is no such model or version, or its run is gone, with which a decision is recorded.
    """
    params = load_params(workspace / PARAMS_FILE)
    with open_store(workspace) as client:
        candidate = _find(client, name, version)
        number = int(candidate.version)
        champion = find_champion(client, name)
        if champion is not None and int(champion.version) == number:
            return Decision(True, "is the champion already", name, number, dry_run=dry_run)
        record: dict[str, Any] = {
            "action": "promote",
            "time": _now(),
            "name": name,
            "version": number,
            "run_id": candidate.run_id,
            "kappa_floor": params.promote.kappa_floor,
            "bp_lcz": bp_lcz.__version__,
        }
        resampling = (params.evaluate.bootstrap_samples, params.evaluate.seed)
        try:
            reason = _judge(client, candidate, champion, params.promote.kappa_floor, resampling, record)
            accepted = True
        except TemporaryError:
            raise
        except (_RefusedError, UserError) as error:
            accepted, reason = False, str(error)
        record |= {"accepted": accepted, "reason": reason}
        decision = Decision(accepted, reason, name, number, record, dry_run)
        if not dry_run:
            before = None if champion is None else int(champion.version)
            decision = _carry_out(client, candidate, before, decision)
    return decision


def restore_champion(workspace: Path, name: str) -> Decision:
    """Give the alias back to the champion before this one, and record it with the run of the one that leaves.

    Again and again it walks back to the first champion. A version that was deleted, or whose files do not load any
    more, is passed over.

    Raises:
        TemporaryError: if MLflow or its artifact store does not answer.
        UserError: if there is no champion, or none before it that can be served, or the champion's run is gone.
    """
    with open_store(workspace) as client:
        champion = find_champion(client, name)
        if champion is None:
            raise UserError(name, f"no champion to roll back from; `bp-lcz promote {name}` makes one")
        left = int(champion.version)
        history = _history(client, name, left)
        client.set_registered_model_tag(name, HISTORY_TAG, json.dumps(history))
        skipped = {}
        for position in range(len(history) - 2, -1, -1):
            restored = history[position]
            try:
                fetch_classifier(client, _find(client, name, restored))
                break
            except TemporaryError:
                raise
            except UserError as error:
                skipped[restored] = str(error)
        else:
            gone = "".join(f"; {reason}" for reason in skipped.values())
            raise UserError(name, f"no champion before version {left} can be restored{gone}")
        reason = f"rolled back from version {left}"
        record = {
            "action": "rollback",
            "time": _now(),
            "name": name,
            "version": restored,
            "run_id": champion.run_id,
            "from_version": left,
            "skipped": skipped,
            "accepted": True,
            "reason": reason,
            "bp_lcz": bp_lcz.__version__,
        }
        _write_record(client, champion, record)
        client.set_registered_model_alias(name, CHAMPION, str(restored))
        client.set_registered_model_tag(name, HISTORY_TAG, json.dumps(history[: position + 1]))
        client.set_model_version_tag(name, str(left), "rolled_back_at", record["time"])
    return Decision(True, reason, name, restored, record)


def find_champion(client: "MlflowClient", name: str) -> "ModelVersion | None":
    """The version with the alias ``champion``, or None.

    Raises:
        UserError: if there is no such model.
    """
    return _by_alias(client, name, CHAMPION)


def _judge(
    client: "MlflowClient",
    candidate: "ModelVersion",
    champion: "ModelVersion | None",
    floor: float,
    resampling: tuple[int, int],
    record: dict[str, Any],
) -> str:
    """Why the candidate may become the champion; what was compared goes into the record.

    Raises:
        _RefusedError: why it may not.
        UserError: if what decides cannot be read.
    """
    fetch_classifier(client, candidate)  # what cannot be loaded cannot be served
    own = _predictions(client, candidate)
    kappa = _kappa(own)
    interval = bootstrap_intervals(own.true, own.predicted, own.block, *resampling)["kappa"]
    record["candidate"] = {"trial": candidate.tags.get("trial"), "kappa": kappa, "kappa_interval": interval}
    record |= {key: candidate.tags.get(key) for key in (*_COMPARED, "data_md5", "kind", "leakage")}
    if kappa is None or not kappa > floor:
        raise _RefusedError(f"kappa {_number(kappa)} does not exceed the floor {floor:.3f} (promote.kappa_floor)")
    if champion is None:
        return f"kappa {_number(kappa)} exceeds the floor {floor:.3f}; there was no champion"

    record["champion"] = {"version": int(champion.version), "run_id": champion.run_id, "kappa": None}
    for key, meaning in _COMPARED.items():
        if candidate.tags.get(key) is None or candidate.tags.get(key) != champion.tags.get(key):
            raise _RefusedError(f"the champion, version {champion.version}, has another {meaning}: nothing to compare")
    other = _predictions(client, champion)
    if not (np.array_equal(own.true, other.true) and np.array_equal(own.block, other.block)):
        raise _RefusedError(f"the champion, version {champion.version}, was evaluated on other patches")
    lead = bootstrap_differences(own.true, own.predicted, other.predicted, own.block, *resampling)["kappa"]
    before = _kappa(other)
    record["champion"]["kappa"] = before
    record["difference"] = {
        "kappa": None if before is None else kappa - before,
        "kappa_interval": lead,
        "level": LEVEL,
        "unit": _unit(client, candidate),
        "blocks": len(np.unique(own.block)),
        "samples": resampling[0],
        "seed": resampling[1],
    }
    if lead is None or before is None:
        raise _RefusedError(f"the lead over version {champion.version} has no interval: too few blocks or classes")
    shown = f"{_number(kappa - before, '+')} {_interval(lead, '+')}"
    if not lead[0] > 0:
        raise _RefusedError(f"the lead in kappa over version {champion.version}, {shown}, is not surely above zero")
    note = "; by single patches the interval is too narrow" * (record["difference"]["unit"] == "patch")
    return f"leads version {champion.version} in kappa by {shown}{note}"


def _carry_out(client: "MlflowClient", candidate: "ModelVersion", before: int | None, decision: Decision) -> Decision:
    """Record the decision and, where accepted, move the alias: last, and in one step."""
    name, version = candidate.name, str(candidate.version)
    if decision.accepted and _champion_number(client, name) != before:
        reason = "the champion changed meanwhile; run it again"
        record = {**decision.record, "accepted": False, "reason": reason}
        decision = Decision(False, reason, name, decision.version, record)
    _write_record(client, candidate, decision.record)
    tags = {"promotion": "accepted" if decision.accepted else "refused", "promotion_reason": decision.reason}
    if decision.accepted:
        tags["promoted_at"] = decision.record["time"]
        history = [] if before is None else _history(client, name, before)
        kept = [*history, decision.version][-_MOST_HISTORY:]
        client.set_registered_model_tag(name, HISTORY_TAG, json.dumps(kept))
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    if decision.accepted:
        client.set_registered_model_alias(name, CHAMPION, version)
    return decision


def _history(client: "MlflowClient", name: str, champion: int) -> list[int]:
    """The champions so far, of which the last is the one of now, whatever a killed process or a hand left."""
    stored = json.loads(client.get_registered_model(name).tags.get(HISTORY_TAG, "[]"))
    for position in range(len(stored) - 1, -1, -1):
        if stored[position] == champion:
            return [int(version) for version in stored[: position + 1]]
    return [*(int(version) for version in stored), champion]


def _champion_number(client: "MlflowClient", name: str) -> int | None:
    champion = find_champion(client, name)
    return None if champion is None else int(champion.version)


def _find(client: "MlflowClient", name: str, version: int | None) -> "ModelVersion":
    from mlflow.exceptions import MlflowException

    if version is not None:
        try:
            return client.get_model_version(name, str(version))
        except MlflowException as error:
            if not is_missing(error):
                raise
            registered_model(client, name)  # if even that does not exist, this says so
            raise UserError(name, f"no version {version}; `bp-lcz models {name}` lists them") from None
    found = _by_alias(client, name, CHALLENGER)
    if found is None:
        raise UserError(name, f"no version has the alias {CHALLENGER}; give --version")
    return found


def _by_alias(client: "MlflowClient", name: str, alias: str) -> "ModelVersion | None":
    number = registered_model(client, name).aliases.get(alias)
    return None if number is None else client.get_model_version(name, str(number))


def registered_model(client: "MlflowClient", name: str) -> "RegisteredModel":
    """The model with this name.

    Raises:
        UserError: if there is none.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise UserError(name, "no such registered model; `make reproduce` registers one") from None


def _run(client: "MlflowClient", version: "ModelVersion") -> "Run":
    """The run of a version.

    Raises:
        UserError: if it was removed for good, as `mlflow gc` does.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(str(version.run_id))
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise UserError(
            f"{version.name} version {version.version}",
            f"its run {version.run_id} was removed from MLflow, "
            "and with it what decides and where decisions are recorded",
        ) from None


def _predictions(client: "MlflowClient", version: "ModelVersion") -> _Predictions:
    """The predictions of a version on its testing split.

    Raises:
        UserError: if they or the run are missing, or not those that were mirrored.
    """
    run_id = str(version.run_id)
    expected = _run(client, version).data.tags.get("predictions_sha256")
    where = f"version {version.version}, run {run_id}: {PREDICTIONS}"
    content = fetch_artifact(client, run_id, PREDICTIONS, expected, where)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            true, predicted, block = (arrays[key] for key in ("y_true", "y_pred", "block"))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(where, f"unreadable: {one_line(error)}") from None
    return _Predictions(true, predicted, block)


def _unit(client: "MlflowClient", version: "ModelVersion") -> str:
    """What the intervals resample, as the run's evaluation says.

    Raises:
        UserError: if the evaluation is missing or damaged.
    """
    run_id = str(version.run_id)
    where = f"version {version.version}, run {run_id}: evaluation.json"
    return Evaluation.parse(fetch_artifact(client, run_id, "evaluation.json", None, where), where).interval.unit


def _kappa(predictions: _Predictions) -> float | None:
    return defined(kappa(confusion_matrix(predictions.true, predictions.predicted)))


def _write_record(client: "MlflowClient", version: "ModelVersion", record: Mapping[str, Any]) -> None:
    stamp = record["time"].replace(":", "").replace("+0000", "Z")
    file = f"{RECORDS}/{stamp}-{record['action']}-{record['version']}.json"
    client.log_text(_run(client, version).info.run_id, json.dumps(record, indent=1, sort_keys=True) + "\n", file)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _number(value: float | None, sign: str = "") -> str:
    return "undefined" if value is None else f"{value:{sign}.3f}"


def _interval(bounds: Interval, sign: str = "") -> str:
    return "[no interval]" if bounds is None else f"[{bounds[0]:{sign}.3f}, {bounds[1]:{sign}.3f}]"
