"""All JSON files that one package writes for another: frozen models with one reader and one writer.

``format`` rises with each change of a file's content. `dvc.yaml` lists it as a parameter of the stage that writes the
file, so that DVC runs the stage again.
"""

from bp_lcz.records.base import MOST_BYTES, Part, Record
from bp_lcz.records.claims import CheckedClaim, Claims, Direction, Reproduced, Verdict
from bp_lcz.records.data import (
    LEAKY_SPLIT,
    BandSummary,
    Blocks,
    DataKind,
    ExpectationSummary,
    GateSummary,
    Leakage,
    Likeness,
    Overlap,
    PackManifest,
    Places,
    SplitSummary,
    Unit,
)
from bp_lcz.records.maps import (
    Accuracy,
    Change,
    Comparison,
    Estimate,
    InputFile,
    MapMetric,
    MappedBy,
    MappedPair,
    MapReport,
    ZoneAccuracy,
)
from bp_lcz.records.model import (
    Calibration,
    Checkpoint,
    ModelDescription,
    PromptOrigin,
    TextOrigin,
    Timings,
    Validation,
)
from bp_lcz.records.registry import Contender, Decision, Lead, MapContest, TrialTags, VersionRow
from bp_lcz.records.scene import FileFindings, SceneFindings
from bp_lcz.records.scores import (
    SCORES,
    CityCoverage,
    ClassScores,
    Coverage,
    Evaluation,
    Interval,
    Metric,
    Resampling,
    Scores,
)
