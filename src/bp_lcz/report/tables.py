"""Tables of the report as rows of text. They depend only on the trials' files."""

import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bp_lcz.params import SPLITS
from bp_lcz.records import CheckedClaim, ClassScores, GateSummary, Interval
from bp_lcz.report.claims import HEADER, entries, interval_text, signed
from bp_lcz.report.comparisons import factors, pairs, plain_partner
from bp_lcz.scoring.results import METRICS, Group, TrialResult, overrides_text
from bp_lcz.scoring.score import fraction
from bp_lcz.scoring.significance import LEVEL, mcnemar
from bp_lcz.so2sat.releases import PROTOCOLS
from bp_lcz.words import counted, plural


class Entry(NamedTuple):
    """One entry of a table: a text, and a smaller text beside it such as an interval."""

    text: str
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        caption: what it shows, with split and data.
        header: names of the columns.
        rows: their entries.
        text: columns beside the first that hold text rather than numbers.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Entry]]
    text: Collection[str] = ()

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Name of each column, and whether it holds numbers."""
        return [(name, i > 0 and name not in self.text) for i, name in enumerate(self.header)]


def data_table(summary: GateSummary) -> Table:
    """Patches, cities and classes of each split."""
    rows = []
    for split in SPLITS:
        content = summary.splits[split]
        cities = "not stated" if content.cities is None else f"{content.cities:,}"
        present = [count for count in content.class_counts if count]
        rows.append(
            _row(split, f"{content.patches:,}", cities, f"{len(present)} of 17", f"{min(present, default=0):,}")
        )
    header = ("split", "patches", "cities", "classes present", "smallest class present")
    return Table(f"Splits of {data_name(summary)}", header, rows)


def answer_table(summary: GateSummary, groups: Sequence[Group]) -> Table:
    """The first table: OA and kappa with intervals, and the lead over the plain backbone."""
    rows = []
    for group in groups:
        intervals = group.intervals()
        entries = [Entry(mean_text(group, key), _interval(group, intervals[key])) for key in ("oa", "kappa")]
        plain = None if group.variant == "plain" else plain_partner(group, groups)
        rows.append([Entry(group.label), *entries, differences_of(group, plain)[0] if plain else Entry("-")])
    header = ("trials", "OA", "kappa", "OA above plain")
    return Table(_caption("Results, with 95 % intervals", summary), header, rows)


def results_table(summary: GateSummary, groups: Sequence[Group]) -> Table:
    """Mean and deviation over seeds with intervals."""
    rows = []
    for group in groups:
        intervals = group.intervals()
        values = []
        for key in METRICS:
            values.append(Entry(mean_text(group, key), _interval(group, intervals[key])))
        described = _row(len(group.seeds), group.backbone, group.variant, overrides_text(group.overrides) or "-")
        rows.append([Entry(group.label), *values, *described])
    several = any(len(group.seeds) > 1 for group in groups)
    header = ("trials" if several else "trial", *METRICS.values(), "seeds", "backbone", "variant", "overrides")
    subject = "All scores, mean ± standard deviation over seeds" if several else "All scores"
    return Table(_caption(subject, summary), header, rows, text=("backbone", "variant", "overrides"))


def trials_table(summary: GateSummary, results: Sequence[TrialResult]) -> Table:
    """Each trial by itself."""
    rows = []
    for result in results:
        evaluation = result.evaluation
        mark = "†" if evaluation.interval.lower_bound else ""
        values = []
        for key in METRICS:
            interval = interval_text(evaluation.intervals[key])
            values.append(Entry(fraction(getattr(evaluation, key), 3), interval and interval + mark))
        rows.append([Entry(result.name), *values, Entry(str(evaluation.seed))])
    return Table(_caption("Each trial", summary), ("trial", *METRICS.values(), "seed"), rows)


def comparison_table(summary: GateSummary, groups: Sequence[Group]) -> Table | None:
    """Each group of trials against the plain backbone with the same seeds, and against its controls."""
    rows = []
    for group, partner in pairs(groups):
        tests = [mcnemar(group.y_true, *pair) for pair in zip(group.y_pred, partner.y_pred, strict=True)]
        differences = differences_of(group, partner)
        counts = (f"{statistics.fmean(test[key] for test in tests):,.0f}" for key in ("b", "c"))
        p = ", ".join(_probability(test["p"]) for test in tests)
        rows.append([Entry(group.label), *differences, *_row(*counts, p, partner.label)])
    header = ("trials", "OA difference", "kappa difference", "only these right", "only others right")
    caption = _caption(
        "Differences from the plain backbone, from controls and from the first backbone, mean over equal seeds", summary
    )
    return Table(caption, (*header, "McNemar p by seed", "against"), rows, text=("against",)) if rows else None


def ablation_table(summary: GateSummary, groups: Sequence[Group]) -> Table | None:
    """One block of rows for each factor that trials override, with differences from the default setting."""
    rows = []
    for title, members, default in factors(groups):
        for setting, group in members:
            if group is default:
                differences = [Entry("default"), Entry("default")]
            elif default is None:
                differences = [Entry("-"), Entry("-")]
            else:
                differences = differences_of(group, default)
            means = (Entry(mean_text(group, key)) for key in ("oa", "kappa"))
            rows.append([Entry(title), Entry(setting), *means, *differences, *_row(len(group.seeds), group.label)])
    header = ("factor", "setting", "OA", "kappa", "OA against default", "kappa against default", "seeds", "trials")
    caption = _caption("Ablation, one factor at a time", summary)
    return Table(caption, header, rows, text=("setting", "trials")) if rows else None


def claims_table(summary: GateSummary, outcomes: Sequence[CheckedClaim]) -> Table | None:
    """The paper's claims that this run tests, and what it says of them."""
    rows = [[Entry(entry) for entry in entries(each)] for each in outcomes if each.difference is not None]
    return Table(_caption("Claims of the paper", summary), HEADER, rows, text=HEADER) if rows else None


def untested_table(summary: GateSummary, outcomes: Sequence[CheckedClaim]) -> Table | None:
    """The other claims and numbers of the paper, with the reason."""
    texts = [entries(each) for each in outcomes if each.difference is None]
    rows = [_row(claim, reproduced, f"{verdict}: {note}") for claim, _, reproduced, _, verdict, _, note in texts]
    header = ("claim", "reproduced", "why")
    caption = _caption("Claims and numbers that this run does not test", summary)
    return Table(caption, header, rows, text=header) if rows else None


def zones_table(summary: GateSummary, groups: Sequence[Group]) -> Table:
    """Accuracy of built and natural zones."""
    rows = [_row(group.label, *(mean_text(group, key) for key in ("oa_built", "oa_natural"))) for group in groups]
    header = ("trials", "OA of 1 to 10", "OA of A to G")
    return Table(_caption("Built zones (1 to 10), land cover (A to G)", summary), header, rows)


def calibration_table(summary: GateSummary, groups: Sequence[Group]) -> Table:
    """Calibration error before and after temperature scaling, and coverage of class sets, as means over seeds."""
    rows = []
    for group in groups:
        found = [member.evaluation.coverage for member in group.members]
        lowest = min(_by_city(group).items(), key=lambda entry: entry[1], default=None)
        sets = (
            fraction(statistics.fmean(each.reached for each in found), 3),
            "-" if lowest is None else f"{fraction(lowest[1], 3)} ({lowest[0]})",
            f"{statistics.fmean(each.classes for each in found):.1f}",
        )
        numbers = (mean_text(group, key) for key in ("ece_before", "ece", "temperature"))
        rows.append(_row(group.label, *numbers, *sets))
    header = ("trials", "ECE before", "ECE", "temperature", "coverage", "coverage, lowest city", "classes in a set")
    asked = groups[0].members[0].evaluation.coverage.asked
    return Table(_caption(f"Calibration, and class sets with {asked:.0%} coverage asked", summary), header, rows)


def coverage_table(summary: GateSummary, groups: Sequence[Group]) -> Table | None:
    """Coverage reached in each city of the testing split, as means over seeds; None where no city is known."""
    first, *_ = groups[0].members
    shown = [group for group in groups if not group.overrides] or list(groups)
    reached = [_by_city(group) for group in shown]
    rows = [
        _row(each.city, f"{each.patches:,}", *(fraction(found[each.city], 3) for found in reached))
        for each in first.evaluation.coverage.cities
    ]
    header = ("city", "patches", *(group.label for group in shown))
    asked = first.evaluation.coverage.asked
    return Table(_caption(f"Coverage by city, {asked:.0%} asked", summary), header, rows) if rows else None


def _by_city(group: Group) -> dict[str, float]:
    """Coverage in each city as mean over seeds."""
    cities = zip(*(member.evaluation.coverage.cities for member in group.members), strict=True)
    return {alike[0].city: statistics.fmean(each.reached for each in alike) for alike in cities}


def class_table(summary: GateSummary, group: Group) -> Table:
    """Precision, recall and F1 of each class, as means over seeds."""
    rows = [
        _row(
            row.code,
            row.name,
            f"{row.support:,}",
            *(fraction(value, 3) for value in (row.precision, row.recall, row.f1)),
        )
        for row in per_class(group)
    ]
    header = ("LCZ", "name", "patches", "precision", "recall", "F1")
    return Table(_caption(f"Classes, {group.label}", summary), header, rows, text=("name",))


def cost_table(summary: GateSummary, results: Sequence[TrialResult]) -> Table:
    """Size of each network, and time and memory of its training."""
    rows = []
    for result in results:
        timings = result.timings
        epochs = f"{result.evaluation.best_epoch} of {timings.epochs}"
        memory = f"{timings.peak_memory_mib:,.0f} MiB"
        size = f"{result.model.parameters:,}", f"{result.model.operations / 1e6:,.1f} M"
        numbers = f"{timings.seconds:,.1f}", f"{timings.patches_per_second:,.0f}", memory
        rows.append(_row(result.name, *size, epochs, *numbers))
    header = ("trial", "parameters", "multiply-adds", "epoch kept", "training, s", "patches/s", "peak memory")
    return Table(f"Cost of training on {data_name(summary)}, training split", header, rows)


def environment_table(summary: GateSummary, results: Sequence[TrialResult]) -> Table:
    """One row for all trials that were trained in the same way on the same machine."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for result in results:
        versions = ", ".join(f"{name} {version}" for name, version in sorted(result.model.versions.items()))
        model, timings = result.model, result.timings
        key = (timings.machine, model.device, str(timings.threads), model.train.precision, versions)
        alike.setdefault(key, []).append(result.name)
    names = ["all"] if len(alike) == 1 else [", ".join(members) for members in alike.values()]
    rows = [_row(name, *key) for name, key in zip(names, alike, strict=True)]
    header = ("trials", "machine", "device", "threads", "precision", "versions")
    return Table(f"Environment of training on {data_name(summary)}", header, rows, text=header)


def interval_notes(groups: Sequence[Group]) -> list[str]:
    """What the brackets mean."""
    notes = []
    for group in groups:
        interval, seeds = group.members[0].evaluation.interval, len(group.seeds)
        unit, blocks, others = interval.unit, counted(interval.blocks, interval.unit), f"other {plural(interval.unit)}"
        of_a_model = (
            f"{LEVEL:.0%} percentile intervals of a bootstrap over {blocks} ({interval.samples:,} "
            f"resamples, seed {interval.seed}). They are about one trained model in {others}."
        )
        if not any(group.intervals().values()):
            note = f"No intervals: all patches belong to one {unit}, so there is nothing to resample."
        elif seeds == 1:
            note = f"In brackets: {of_a_model} † One seed decides nothing: another seed may lie outside."
        else:
            note = (
                f"In brackets: {LEVEL:.0%} intervals of means over training seeds. {seeds} seeds and {blocks} "
                f"are two crossed samples (jackknife and Student's t), so the intervals are about other seeds "
                f"and {others}. For single trials: {of_a_model}"
            )
        if interval.lower_bound:
            note += (
                " † The positions of the patches are not known, so single patches were resampled. Errors of "
                "overlapping patches go together: the true intervals are wider, and these show a lower bound of "
                "their width."
            )
        if note not in notes:
            notes.append(note)
    return notes


def mean_text(group: Group, key: str) -> str:
    """Mean and deviation over seeds as ``.612 ± .010``; the value alone with one seed."""
    values = group.values(key)
    if values is None:
        return "-"
    text = fraction(statistics.fmean(values), 3)
    return text if len(values) == 1 else f"{text} ± {fraction(statistics.stdev(values), 3)}"


def per_class(group: Group) -> list[ClassScores]:
    """``per_class`` of ``evaluation.json`` as means over the seeds in which a value is defined."""
    rows = []
    for alike in zip(*(member.evaluation.per_class for member in group.members), strict=True):
        means = {}
        for key in ("precision", "recall", "f1"):
            defined = [value for each in alike if (value := getattr(each, key)) is not None]
            means[key] = statistics.fmean(defined) if defined else None
        rows.append(alike[0].model_copy(update=means))
    return rows


def patches(summary: GateSummary) -> int:
    """Patches of the testing split."""
    return summary.splits["testing"].patches


def data_name(summary: GateSummary) -> str:
    """Name of the data set with its kind and, for So2Sat, the protocol."""
    protocol = PROTOCOLS.get(summary.release or "") if summary.is_comparable else None
    return f"{summary.dataset} ({', '.join(filter(None, [summary.heading, protocol]))})"


def differences_of(group: Group, other: Group) -> list[Entry]:
    """Lead in OA and kappa, with intervals."""
    intervals = group.intervals_of_lead(other)
    entries = []
    for key in ("oa", "kappa"):
        own, others = group.values(key), other.values(key)
        if own is None or others is None:
            entries.append(Entry("-"))
            continue
        lead = signed(statistics.fmean(own) - statistics.fmean(others))
        entries.append(Entry(lead, _interval(group, intervals[key])))
    return entries


def _interval(group: Group, interval: Interval) -> str:
    """An interval, with a dagger where it is narrower than it should be."""
    return interval_text(interval) + ("†" if interval is not None and group.why_narrow else "")


def _caption(subject: str, summary: GateSummary) -> str:
    return f"{subject}: testing split of {data_name(summary)}, {patches(summary):,} patches"


def _row(*values: object) -> list[Entry]:
    return [Entry(str(value)) for value in values]


def _probability(p: float) -> str:
    return "< .001" if p < 0.001 else fraction(p, 3)
