"""Records of the registry about a version: its tags, and the decisions on it."""

import json
from collections.abc import Mapping
from typing import ClassVar, Literal

from bp_lcz.params import Variant
from bp_lcz.records.base import Part, Record
from bp_lcz.records.data import DataKind, Overlap
from bp_lcz.records.maps import InputFile
from bp_lcz.records.scores import Interval, Resampling


class TrialTags(Record):
    """Tags by which a run or a version of a trial is found and traced. MLflow keeps all of them as text.

    Attributes:
        prompts: texts, or a control in their place, as JSON.
        channels: names of channels as JSON.
        level: processing level of Sentinel-2, or ``not stated``.
        data_md5: DVC's md5 of the folder of the data set.
        testing_digest: digest of the testing split, independent of the training data.
        lock_hash: hash of the trial's DVC record. Equal hashes mean equal inputs, commands and outputs.
        versions: versions of software as JSON.
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
        """The tags as text for MLflow."""
        return {key: str(value) for key, value in self}

    @classmethod
    def of(cls, tags: Mapping[str, str], where: str) -> "TrialTags":
        """Find these tags among all tags of a run or a version.

        Raises:
            UserError: if one is missing, or another version of BP-LCZ wrote them.
        """
        found: dict[str, object] = {key: tags[key] for key in cls.model_fields if key in tags}
        if tags.get("format", "").isdecimal():
            found["format"] = int(tags["format"])
        return cls.parse(json.dumps(found).encode(), where)


class Contender(Part):
    """A version that was judged. Its scores are of the testing split; None if undefined or not computed."""

    version: int
    run_id: str
    tags: TrialTags
    kappa: float | None
    kappa_interval: Interval = None


class Lead(Part):
    """Lead of the candidate over the champion."""

    kappa: float | None
    kappa_interval: Interval
    interval: Resampling


class MapContest(Part):
    """Comparison of maps of two models of the same scenes, against a reference.

    Attributes:
        reference: file name of the reference.
        reference_sha256: digest of that file.
        inputs: files from which both maps were made.
        cells: number of cells with a zone in both maps and in the reference.
        unit: unit that the bootstrap draws with replacement.
        units: number of units.
        samples: number of resamples.
        seed: seed of the bootstrap.
        candidate_sha256: digest of the candidate's weights.
        champion_sha256: digest of the champion's weights.
        candidate_kappa: kappa of the candidate on these cells.
        champion_kappa: kappa of the champion on these cells.
        lead_interval: 95 % interval of the difference between both kappas.
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
        """Kappa of the candidate minus that of the champion."""
        if self.candidate_kappa is None or self.champion_kappa is None:
            return None
        return self.candidate_kappa - self.champion_kappa


class Decision(Record):
    """Decision of a promotion or a rollback. It is kept with the run of the candidate or of the replaced champion.

    Attributes:
        version: version that was judged or, in a rollback, restored.
        accepted: whether that version is the champion now, or would be without ``--dry-run``.
        reason: reason in one line.
        maps: comparison of maps of both models, if it decided instead of the testing split.
        from_version: in a rollback, the champion that was replaced.
        skipped: in a rollback, versions that cannot be served, and why.
        dry_run: whether nothing was changed.
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
    """A row in the list of versions. Scores are of the testing split; None if the run is gone or has none."""

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
