"""What the registry keeps of a version: its tags, and the decisions on it."""

import json
from collections.abc import Mapping
from typing import ClassVar, Literal

from bp_lcz.params import Variant
from bp_lcz.records.base import Part, Record
from bp_lcz.records.data import DataKind, Overlap
from bp_lcz.records.maps import InputFile
from bp_lcz.records.scores import Interval, Resampling


class TrialTags(Record):
    """Everything by which a run or a version of a trial can be found and traced; MLflow keeps texts.

    Attributes:
        prompts: texts or a control in their place, as JSON.
        channels: as JSON.
        level: of Sentinel-2, or ``not stated``.
        data_md5: of the folder of the data set, as DVC counts it.
        testing_digest: of what it was evaluated on, whatever it was trained on.
        lock_hash: names the trained and evaluated trial: equal hashes are the same inputs, command and outputs.
        versions: as JSON.
    """

    remedy: ClassVar[str] = "register it again"
    format: Literal[4] = 4
    trial: str
    backbone: str
    variant: Variant
    seed: str
    prompts: str
    dataset: str
    kind: DataKind
    leakage: Overlap
    channels: str
    level: str
    data_md5: str
    testing_digest: str
    git_commit: str
    git_dirty: Literal["true", "false"]
    lock_hash: str
    weights_sha256: str
    versions: str

    def texts(self) -> dict[str, str]:
        """The tags as MLflow takes them."""
        return {key: str(value) for key, value in self}

    @classmethod
    def of(cls, tags: Mapping[str, str], where: str) -> "TrialTags":
        """Those among the tags of a run or a version.

        Raises:
            UserError: if one is missing, or another version of BP-LCZ wrote them.
        """
        found: dict[str, object] = {key: tags[key] for key in cls.model_fields if key in tags}
        if tags.get("format", "").isdecimal():
            found["format"] = int(tags["format"])
        return cls.parse(json.dumps(found).encode(), where)


class Contender(Part):
    """A version that was judged; its numbers are on the testing split, None where undefined or not come to."""

    version: int
    run_id: str
    tags: TrialTags
    kappa: float | None
    kappa_interval: Interval = None


class Lead(Part):
    """Of the candidate over the champion."""

    kappa: float | None
    kappa_interval: Interval
    interval: Resampling


class MapContest(Part):
    """Maps of two models of the same scenes, against a reference.

    Attributes:
        reference: name of its file.
        reference_sha256: of that file.
        inputs: files that both maps are made of.
        cells: with a zone in both maps and in the reference.
        unit: that is drawn with replacement for the interval.
        units: how many.
        samples: number of resamples.
        seed: of the drawing.
        candidate_sha256: of the weights.
        champion_sha256: likewise.
        candidate_kappa: on these cells.
        champion_kappa: likewise.
        lead_interval: 95 % interval of the difference between the two.
    """

    reference: str
    reference_sha256: str
    inputs: tuple[InputFile, ...]
    cells: int
    unit: Literal["polygon", "block of 1 km"]
    units: int
    samples: int
    seed: int
    candidate_sha256: str
    champion_sha256: str
    candidate_kappa: float | None
    champion_kappa: float | None
    lead_interval: Interval

    @property
    def lead(self) -> float | None:
        """Of the candidate."""
        if self.candidate_kappa is None or self.champion_kappa is None:
            return None
        return self.candidate_kappa - self.champion_kappa


class Decision(Record):
    """What a promotion or a rollback came to, kept with the run of the candidate or of the champion that leaves.

    Attributes:
        version: that was judged or, by a rollback, restored.
        accepted: whether that version is the champion now, or would be without ``--dry-run``.
        reason: why, in one line.
        maps: of both models, where these decided in the place of the testing split.
        from_version: that leaves by a rollback.
        skipped: by a rollback: versions that cannot be served, and why.
        dry_run: nothing was changed.
    """

    format: Literal[4] = 4
    action: Literal["promote", "rollback"]
    time: str
    bp_lcz: str
    name: str
    version: int
    run_id: str
    accepted: bool
    reason: str
    kappa_floor: float | None = None
    candidate: Contender | None = None
    champion: Contender | None = None
    lead: Lead | None = None
    maps: MapContest | None = None
    from_version: int | None = None
    skipped: dict[int, str] = {}  # noqa: RUF012
    dry_run: bool = False


class VersionRow(Part):
    """What is listed of a version; numbers on the testing split, None where the run is gone or has none."""

    version: int
    aliases: tuple[str, ...]
    trial: str | None
    oa: float | None
    kappa: float | None
    kappa_interval: Interval
    dataset: str | None
    data_md5: str | None
    kind: str | None
    promotion: str | None
    created: str
