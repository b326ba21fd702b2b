"""Which version of a model is served: the alias ``champion`` moves only to a version that is measurably better.

A candidate must exceed a fixed floor of kappa. If there is a champion, the candidate must also lead it on the same
testing split, or on maps of the same city: the whole 95 % interval of the paired difference must be above zero. The
interval is about these two models in other cities, so seeds are not resampled. On the testing split, the predictions of
both runs decide. MLflow holds them and their digests. No code of a model is executed.

A tag of the registered model lists all champions, oldest first. The alias alone says which one serves now. If a process
is killed between the two changes, the list up to the alias is right.
"""

import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Integer
from pydantic import TypeAdapter, ValidationError

import bp_lcz
from bp_lcz.errors import NO_ARRAY, TemporaryError, UserError, one_line
from bp_lcz.params import PARAMS_FILE, Params, load_params
from bp_lcz.records import Contender, Decision, Evaluation, Interval, Lead, MapContest, TrialTags
from bp_lcz.registry.connection import open_store
from bp_lcz.registry.fetch import fetch_artifact, fetch_classifier
from bp_lcz.registry.mirror import PREDICTIONS
from bp_lcz.registry.versions import CHALLENGER, CHAMPION, find_champion, find_version, run_of
from bp_lcz.scoring.metrics import confusion_matrix, defined, kappa
from bp_lcz.scoring.significance import bootstrap_differences, bootstrap_intervals
from bp_lcz.words import counted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

RECORDS = "decisions"
"""Folder of the decision records among the artifacts of a run."""

HISTORY_TAG = "champions"
_MOST_HISTORY = 200

_FEW_UNITS = 20
"""Number of resampled units below which an interval is called too narrow."""

_COMPARED = {"dataset": "data set", "channels": "channels", "level": "level", "testing_digest": "testing split"}
"""Tags that must agree before two versions are compared."""


@dataclass(frozen=True)
class _Predictions:
    true: Integer[np.ndarray, "patch"]
    predicted: Integer[np.ndarray, "patch"]
    block: Integer[np.ndarray, "patch"]

    @property
    def kappa(self) -> float | None:
        return defined(kappa(confusion_matrix(self.true, self.predicted)))


def decision_lines(decision: Decision) -> list[str]:
    """The decision as plain text."""
    verdict = ("champion" if decision.accepted else "refused") + " (dry run, nothing changed)" * decision.dry_run
    lines = [f"{decision.name} version {decision.version}: {verdict}", f"reason      {decision.reason}"]
    candidate, champion, lead, maps = decision.candidate, decision.champion, decision.lead, decision.maps
    if candidate is not None:
        lines.append(f"kappa       {_number(candidate.kappa)} {_interval(candidate.kappa_interval)}")
        lines.append(f"floor       {decision.kappa_floor:.3f}")
    if champion is not None and lead is not None:
        lines.append(f"champion    version {champion.version}, kappa {_number(champion.kappa)}")
        bounds = f"{_number(lead.kappa, '+')} {_interval(lead.kappa_interval, '+')}"
        lines.append(f"difference  {bounds} by {lead.interval.unit}")
    if maps is not None:
        kappas = f"{_number(maps.candidate_kappa)} against {_number(maps.champion_kappa)} of the champion"
        lines.append(f"maps        kappa {kappas}, {maps.cells:,} cells, {maps.reference}")
        bounds = f"{_number(maps.lead, '+')} {_interval(maps.lead_interval, '+')}"
        lines.append(f"difference  {bounds} by {maps.unit} ({maps.units})")
    return lines


def promote_version(
    workspace: Path,
    name: str,
    version: int | None = None,
    dry_run: bool = False,
    maps: MapContest | None = None,
) -> Decision:
    """Make a version the champion if it is good enough, and record the decision with its run.

    With a store in a file, promotions of one clone run one after the other. An MLflow server cannot compare and set, so
    the champion is read again right before the alias moves. A promotion from another machine between these two steps is
    not noticed.

    Args:
        workspace: checkout or workspace, whose ``params.yaml`` holds the floor and the resampling.
        name: name of the registered model.
        version: version to promote; by default the one with the alias ``challenger``.
        dry_run: decide and change nothing.
        maps: comparison of maps of one city by candidate and champion. It then decides instead of the testing split.

    Returns:
        The decision. A version that is the champion already is accepted, and nothing is recorded.

    Raises:
        TemporaryError: if MLflow or its artifact store does not answer. Nothing is decided then.
        UserError: if there is no such model or version, or the run that would hold the decision is gone.
    """
    params = load_params(workspace / PARAMS_FILE)
    with open_store(workspace) as client:
        which = f"@{CHALLENGER}" if version is None else f"/{version}"
        candidate = find_version(client, f"models:/{name}{which}")
        champion = find_champion(client, name)
        told = {"action": "promote", "name": name, "version": int(candidate.version), "dry_run": dry_run}
        if champion is not None and champion.version == candidate.version:
            return _decision(candidate, **told, accepted=True, reason="is the champion already")
        found: dict[str, Any] = {"kappa_floor": params.promote.kappa_floor}
        try:
            accepted, reason = _judge(client, candidate, champion, params, found, maps)
        except TemporaryError:
            raise
        except UserError as error:
            accepted, reason = False, str(error)
        decision = _decision(candidate, **told, **found, accepted=accepted, reason=reason)
        return decision if dry_run else _carry_out(client, candidate, champion, decision)


def restore_champion(workspace: Path, name: str) -> Decision:
    """Give the alias back to the previous champion, and record this with the run of the present one.

    Repeated calls go back to the first champion. Versions that were deleted, or whose files do not load any more, are
    skipped.

    Raises:
        TemporaryError: if MLflow or its artifact store does not answer.
        UserError: if there is no champion, or no earlier champion can be served, or the champion's run is gone.
    """
    with open_store(workspace) as client:
        champion = find_champion(client, name)
        if champion is None:
            raise UserError(name, f"has no champion to roll back from; `bp-lcz promote {name}` makes one")
        left = int(champion.version)
        history = _history(client, name, left)
        client.set_registered_model_tag(name, HISTORY_TAG, json.dumps(history))
        skipped = {}
        for position in range(len(history) - 2, -1, -1):
            restored = history[position]
            try:
                fetch_classifier(client, find_version(client, f"models:/{name}/{restored}"))
                break
            except TemporaryError:
                raise
            except UserError as error:
                skipped[restored] = str(error)
        else:
            gone = "".join(f"; {reason}" for reason in skipped.values())
            raise UserError(name, f"no champion before version {left} can be restored{gone}")
        told = {"action": "rollback", "name": name, "version": restored, "from_version": left, "skipped": skipped}
        decision = _decision(champion, **told, accepted=True, reason=f"rolled back from version {left}")
        _write(client, champion, decision)
        client.set_registered_model_alias(name, CHAMPION, str(restored))
        client.set_registered_model_tag(name, HISTORY_TAG, json.dumps(history[: position + 1]))
        client.set_model_version_tag(name, str(left), "rolled_back_at", decision.time)
    return decision


def _judge(
    client: "MlflowClient",
    candidate: "ModelVersion",
    champion: "ModelVersion | None",
    params: Params,
    found: dict[str, Any],
    maps: MapContest | None,
) -> tuple[bool, str]:
    """Whether the candidate may become the champion, and why. ``found`` receives what was compared.

    Raises:
        UserError: if the predictions or the models cannot be read.
    """
    floor, resampling = params.promote.kappa_floor, (params.evaluate.bootstrap_samples, params.evaluate.seed)
    fetch_classifier(client, candidate)  # a version that does not load cannot be served
    own = _predictions(client, candidate)
    interval = bootstrap_intervals(own.true, own.predicted, own.block, *resampling)["kappa"]
    found["candidate"] = contender = _contender(candidate, own.kappa, interval)
    if own.kappa is None or not own.kappa > floor:
        return False, f"kappa {_number(own.kappa)} does not exceed the floor {floor:.3f} (promote.kappa_floor)"
    if champion is None:
        return True, f"kappa {_number(own.kappa)} exceeds the floor {floor:.3f}; there was no champion"

    found["champion"] = holder = _contender(champion, None)
    if maps is not None:
        found["maps"] = maps
        return _judge_maps(maps, contender, holder)
    for key, meaning in _COMPARED.items():
        if getattr(contender.tags, key) != getattr(holder.tags, key):
            return (
                False,
                f"the champion, version {champion.version}, has another {meaning}, so the two cannot be compared",
            )
    other = _predictions(client, champion)
    if not (np.array_equal(own.true, other.true) and np.array_equal(own.block, other.block)):
        return False, f"the champion, version {champion.version}, was evaluated on other patches"
    bounds = bootstrap_differences(own.true, own.predicted, other.predicted, own.block, *resampling)["kappa"]
    found["champion"] = holder.model_copy(update={"kappa": other.kappa})
    lead = None if other.kappa is None else own.kappa - other.kappa
    drawn = _evaluation(client, candidate).interval.model_copy(
        update={"blocks": len(np.unique(own.block)), "samples": resampling[0], "seed": resampling[1]}
    )
    found["lead"] = Lead(kappa=lead, kappa_interval=bounds, interval=drawn)
    note = "; single patches were resampled, so the interval is too narrow" * drawn.lower_bound
    return _sure(lead, bounds, f"version {champion.version}", note)


def _judge_maps(maps: MapContest, candidate: Contender, champion: Contender) -> tuple[bool, str]:
    """Whether the candidate makes the better map."""
    for contender, sha256 in ((candidate, maps.candidate_sha256), (champion, maps.champion_sha256)):
        if contender.tags.weights_sha256 != sha256:
            return False, f"the map given for version {contender.version} was made by other weights ({sha256[:12]})"
    named = f"version {champion.version} on {maps.cells:,} cells of a map against {maps.reference}"
    note = f"; with only {counted(maps.units, maps.unit)} the interval is too narrow" * (maps.units < _FEW_UNITS)
    return _sure(maps.lead, maps.lead_interval, named, note)


def _sure(lead: float | None, bounds: Interval, champion: str, note: str) -> tuple[bool, str]:
    """Whether the whole interval of a lead is above zero, and why, in words."""
    if bounds is None or lead is None:
        return False, f"the lead over {champion} has no interval: too few blocks or classes"
    shown = f"{_number(lead, '+')} {_interval(bounds, '+')}"
    if not bounds[0] > 0:
        return False, f"the lead in kappa over {champion}, {shown}, is not surely above zero"
    return True, f"leads {champion} in kappa by {shown}{note}"


def _carry_out(
    client: "MlflowClient", candidate: "ModelVersion", champion: "ModelVersion | None", decision: Decision
) -> Decision:
    """Record the decision and, if it is accepted, move the alias as the last step."""
    name, version, now = candidate.name, str(candidate.version), find_champion(client, candidate.name)
    if decision.accepted and (now and now.version) != (champion and champion.version):
        meanwhile = {"accepted": False, "reason": "the champion changed meanwhile; run it again"}
        decision = decision.model_copy(update=meanwhile)
    _write(client, candidate, decision)
    tags = {"promotion": "accepted" if decision.accepted else "refused", "promotion_reason": decision.reason}
    if decision.accepted:
        tags["promoted_at"] = decision.time
        history = [] if champion is None else _history(client, name, int(champion.version))
        kept = [*history, decision.version][-_MOST_HISTORY:]
        client.set_registered_model_tag(name, HISTORY_TAG, json.dumps(kept))
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    if decision.accepted:
        client.set_registered_model_alias(name, CHAMPION, version)
    return decision


def _history(client: "MlflowClient", name: str, champion: int) -> list[int]:
    """All champions, the present one last, even after a killed process or a change by hand."""
    try:
        stored = TypeAdapter(list[int]).validate_json(client.get_registered_model(name).tags.get(HISTORY_TAG, "[]"))
    except ValidationError:
        raise UserError(name, f"its tag {HISTORY_TAG} is not a list of versions; remove the tag") from None
    for position in range(len(stored) - 1, -1, -1):
        if stored[position] == champion:
            return stored[: position + 1]
    return [*stored, champion]


def _contender(version: "ModelVersion", kappa: float | None, bounds: Interval = None) -> Contender:
    number, tags = int(version.version), TrialTags.of(version.tags, f"{version.name} version {version.version}")
    return Contender(version=number, run_id=str(version.run_id), tags=tags, kappa=kappa, kappa_interval=bounds)


def _predictions(client: "MlflowClient", version: "ModelVersion") -> _Predictions:
    """The predictions of a version on its testing split.

    Raises:
        UserError: if the run or the file is missing, or the file is not the one that was mirrored.
    """
    run_id = str(version.run_id)
    expected = run_of(client, version).data.tags.get("predictions_sha256")
    where = f"version {version.version}, run {run_id}: {PREDICTIONS}"
    content = fetch_artifact(client, run_id, PREDICTIONS, expected, where)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            true, predicted, block = (arrays[key] for key in ("y_true", "y_pred", "block"))
    except (OSError, KeyError, *NO_ARRAY) as error:
        raise UserError(where, f"unreadable: {one_line(error)}") from None
    return _Predictions(true, predicted, block)


def _evaluation(client: "MlflowClient", version: "ModelVersion") -> Evaluation:
    """The evaluation that was mirrored.

    Raises:
        UserError: if it is missing or damaged.
    """
    run_id = str(version.run_id)
    where = f"version {version.version}, run {run_id}: evaluation.json"
    return Evaluation.parse(fetch_artifact(client, run_id, "evaluation.json", None, where), where)


def _decision(of: "ModelVersion", **told: Any) -> Decision:
    """A decision of this moment, about the run of a version."""
    time = datetime.now(UTC).isoformat(timespec="microseconds")
    return Decision(time=time, bp_lcz=bp_lcz.__version__, run_id=str(of.run_id), **told)


def _write(client: "MlflowClient", version: "ModelVersion", decision: Decision) -> None:
    stamp = decision.time.replace(":", "").replace("+0000", "Z")
    file = f"{RECORDS}/{stamp}-{decision.action}-{decision.version}.json"
    client.log_text(run_of(client, version).info.run_id, decision.content(), file)


def _number(value: float | None, sign: str = "") -> str:
    return "undefined" if value is None else f"{value:{sign}.3f}"


def _interval(bounds: Interval, sign: str = "") -> str:
    return "[no interval]" if bounds is None else f"[{bounds[0]:{sign}.3f}, {bounds[1]:{sign}.3f}]"
