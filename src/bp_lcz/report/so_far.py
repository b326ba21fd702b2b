"""Tables of an unfinished matrix: rows of the report for trials that have run, and names of those that have not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from bp_lcz.errors import UserError
from bp_lcz.params import Params, Variant
from bp_lcz.paths import EVALUATIONS
from bp_lcz.records import GateSummary
from bp_lcz.report.comparisons import factors, pairs
from bp_lcz.report.left_out import NOTE, left_out_table
from bp_lcz.report.page import environment
from bp_lcz.report.tables import Entry, Table, data_name, differences_of, interval_notes, mean_text, patches
from bp_lcz.scoring.results import SECTIONS, Group, check_same_patches, group_seeds, label_of, overrides, read_matrix


@dataclass(frozen=True)
class Row:
    """Trials of ``params.yaml`` that differ only in the seed; a `bp_lcz.report.comparisons.Setting`.

    Attributes:
        label: the common part of the trials' names.
        backbone: name of the backbone.
        variant: name of the variant.
        overrides: values that differ from the common sections, by dotted key.
        settings: all values, by section.
        trials: names of the trials.
        done: names of the evaluated trials.
        group: the results; None until all trials were evaluated.
    """

    label: str
    backbone: str
    variant: Variant
    overrides: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]
    trials: Sequence[str]
    done: Sequence[str]
    group: Group | None = None


class Shown(NamedTuple):
    """A table of the trials that have run.

    Attributes:
        table: the table.
        not_run: names of the rows that it still lacks.
    """

    table: Table
    not_run: Sequence[str]


@dataclass(frozen=True)
class SoFar:
    """The results of a matrix so far.

    Attributes:
        rule: hash of the decision rule of the matrix, if it has one.
        trials: number of trials.
        done: number of evaluated trials.
        tables: means, differences and factors; also classes left out of the training, if there are any.
        notes: what the brackets mean.
    """

    rule: str | None
    trials: int
    done: int
    tables: Sequence[Shown]
    notes: Sequence[str]

    def __str__(self) -> str:
        """As Markdown."""
        said = [f"{self.done} of {self.trials} trials have run."]
        if self.done < self.trials:
            said.append("This matrix is not finished: a row that lacks a trial or a seed is listed as not run.")
        if self.rule:
            said.append(f"Its rule has the SHA-256 {self.rule} (without the last line end).")
        blocks = [" ".join(said)]
        as_markdown = environment().get_template("table.md.j2").module.table  # type: ignore[attr-defined]
        for table, not_run in self.tables:
            blocks += [str(as_markdown(table)).strip()] * bool(table.rows)
            blocks += [f"Not run ({len(not_run)}): {'; '.join(not_run)}."] * bool(not_run)
        return "\n\n".join([*blocks, *self.notes])


def so_far(params: Params) -> SoFar:
    """Tables of the settings whose trials have all been evaluated, in the current folder.

    Raises:
        UserError: if there is no such setting, or for the reasons of `read_matrix`.
    """
    rows = _rows(params)
    whole = [row for row in rows if len(row.done) == len(row.trials)]
    if not whole:
        raise UserError(EVALUATIONS, "no setting of params.yaml has all its trials yet")
    summary, results = read_matrix(params, [name for row in whole for name in row.trials])
    check_same_patches(results)
    groups = {member.name: group for group in group_seeds(results) for member in group.members}
    rows = [replace(row, group=groups.get(row.trials[0])) for row in rows]
    left_out = _left_out(summary, rows)
    return SoFar(
        rule=params.rule,
        trials=len(params.trials),
        done=sum(len(row.done) for row in rows),
        tables=[_means(summary, rows), _leads(summary, rows), _factors(summary, rows), *left_out],
        notes=[*interval_notes([row.group for row in rows if row.group]), *[NOTE] * bool(left_out)],
    )


def _rows(params: Params) -> list[Row]:
    """The trials of the parameters by setting, without their results."""
    rows = []
    for names in params.alike():
        first, differing = params.trial(names[0]), overrides(params, names[0])
        label = label_of({name: params.trials[name].seed for name in names}, first.backbone, first.variant, differing)
        done = [name for name in names if (EVALUATIONS / name / "evaluation.json").is_file()]
        settings = first.model_dump(include=SECTIONS)
        rows.append(Row(label, first.backbone, first.variant, differing, settings, names, done))
    return rows


def _means(summary: GateSummary, rows: Sequence[Row]) -> Shown:
    entries, not_run = [], []
    for row in rows:
        seeds = f"{len(row.done)} of {len(row.trials)}"
        if row.group is None:
            not_run.append(f"{row.label} ({seeds} seeds)")
        else:
            entries.append([Entry(row.label), *_scores(row.group), Entry(seeds)])
    return Shown(Table(_caption("Results so far", summary), ("trials", "OA", "kappa", "seeds"), entries), not_run)


def _left_out(summary: GateSummary, rows: Sequence[Row]) -> list[Shown]:
    """Classes left out of the training, once all their trials have run: "all" means the same classes in each row."""
    groups = [row.group for row in rows if row.settings["train"]["leave_out"]]
    whole = [group for group in groups if group is not None]
    table = left_out_table(summary, whole) if len(whole) == len(groups) else None
    return [Shown(table, [])] if table else []


def _leads(summary: GateSummary, rows: Sequence[Row]) -> Shown:
    """Each setting against the plain backbone and its controls, and the method against prompting alone."""
    entries, not_run = [], []
    for row, other in _compared(rows):
        if row.group is None or other.group is None:
            not_run.append(f"{row.label} against {other.label}")
        else:
            entries.append([Entry(row.label), *differences_of(row.group, other.group), Entry(other.label)])
    header = ("trials", "OA difference", "kappa difference", "against")
    caption = _caption("Differences so far, mean over equal seeds", summary)
    return Shown(Table(caption, header, entries, text=("against",)), not_run)


def _factors(summary: GateSummary, rows: Sequence[Row]) -> Shown:
    entries, not_run = [], []
    for title, members, default in factors(rows):
        is_more_than_default = any(row.group and row is not default for _, row in members)
        for setting, row in members:
            if row.group is None or (default is not None and default.group is None):
                not_run.append(f"{title} {setting}")
            elif is_more_than_default:
                leads = [Entry("default" if row is default else "-")] * 2
                if default is not None and default.group is not None and row is not default:
                    leads = differences_of(row.group, default.group)
                entries.append([Entry(title), Entry(setting), *_scores(row.group), *leads, Entry(row.label)])
    header = ("factor", "setting", "OA", "kappa", "OA against default", "kappa against default", "trials")
    return Shown(Table(_caption("Factors so far", summary), header, entries, text=("setting", "trials")), not_run)


def _compared(rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    yield from pairs(rows)
    for row in (row for row in rows if row.variant == "bp-lcz"):
        alike = (each for each in rows if (each.backbone, each.overrides) == (row.backbone, row.overrides))
        yield from ((row, each) for each in alike if each.variant == "bgp")


def _scores(group: Group) -> list[Entry]:
    return [Entry(mean_text(group, key)) for key in ("oa", "kappa")]


def _caption(subject: str, summary: GateSummary) -> str:
    return f"{subject}: testing split of {data_name(summary)}, {patches(summary):,} patches"
