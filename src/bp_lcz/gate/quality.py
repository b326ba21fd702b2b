"""The quality gate: expectations on the statistics of every patch, checked by Great Expectations.

Great Expectations sees only tables and no pixels. It is imported where it runs, since the import takes seconds.
"""

import logging
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from bp_lcz.bands import Level
from bp_lcz.errors import UserError
from bp_lcz.files import staged_file, staged_folder
from bp_lcz.gate.data_docs import Line, Status, make_self_contained
from bp_lcz.gate.expectations import ENOUGH, Expectation, band_statistics, class_counts, suite, tables
from bp_lcz.gate.leakage import EQUAL_BLOCKS, NEAREST_M, OVERLAP_M, REMEDY, find_neighbours
from bp_lcz.gate.statistics import patch_statistics
from bp_lcz.params import SPLITS, Split
from bp_lcz.records import BandSummary, DataKind, ExpectationSummary, GateSummary, Leakage, SplitSummary
from bp_lcz.so2sat.layout import check_dataset, dataset_name, open_split
from bp_lcz.so2sat.published import PUBLISHED
from bp_lcz.so2sat.releases import is_random_split, release

EXAMPLES = 5
"""Largest number of violating rows that a message names."""


@dataclass(frozen=True)
class ExpectationResult:
    """Result of an expectation: the number of rows that violate it, and names of the first ones.

    ``checked`` is the number of rows that could be checked.
    """

    expectation: Expectation
    checked: int
    violations: int
    examples: tuple[str, ...]

    @property
    def status(self) -> Status:
        """Outcome for the pipeline."""
        if not self.checked:
            return "not checked"
        if not self.violations:
            return "passed"
        return "warning" if self.expectation.warning else "failed"

    def __str__(self) -> str:
        """The expectation, the number of violations and the first offenders, in one line."""
        expectation = self.expectation
        dots = ", ..." if self.violations > len(self.examples) else ""
        return (
            f"expectation '{expectation.title}' violated by {self.violations} "
            f"{expectation.table}: {', '.join(self.examples)}{dots}"
        )


def gate(
    root: Path, out: Path, reflectance_max: float, zeros_max: float, leakage: Literal["error", "mark"] = "error"
) -> GateSummary:
    """Check a data set; write its statistics, Data Docs and, if it passes, its summary.

    Args:
        root: folder of the data set.
        out: folder for ``statistics.parquet`` and ``data_docs/``, which are always written, and ``summary.json``,
            which is written only if the data set passes. The summary depends only on the data.
        reflectance_max: largest plausible top-of-atmosphere reflectance.
        zeros_max: largest share of zeros in a patch's Sentinel-1 values, and in its Sentinel-2 values.
        leakage: whether overlapping splits are an ``error``, or a warning that marks every result.

    Returns:
        The summary.

    Raises:
        UserError: if a file is not in form, or an expectation fails. The text then names the expectation, the number of
            violations and the first violating patches.
    """
    (out / "summary.json").unlink(missing_ok=True)
    channels = check_dataset(root)
    statistics = patch_statistics(root)
    tabled = tables(root, statistics, channels)
    neighbours = find_neighbours(root)
    tabled["neighbours"] = neighbours.table
    patches = {split: int((statistics["split"] == split).sum()) for split in SPLITS}
    accepted = leakage == "mark" or is_random_split(patches)
    expectations = [*suite(channels, reflectance_max, zeros_max), *leakage_suite(accepted)]
    _check_names(expectations, tabled)
    with staged_file(out / "statistics.parquet") as file:
        statistics.to_parquet(file, index=False)
    with staged_folder(out / "data_docs") as folder:
        outcomes = _run(tabled, expectations, folder, dataset_name(root))
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed:
        more = f"; {len(failed) - 1} more failed, see {out / 'data_docs/index.html'}" if failed[1:] else ""
        hint = f"; {REMEDY}" if failed[0].expectation.table == "neighbours" else ""
        raise UserError(root, f"{failed[0]}{hint}{more}")
    summary = _summary(root, statistics, outcomes, neighbours.summary())
    summary.write(out / "summary.json")
    return summary


def _check_names(expectations: list[Expectation], tables: Mapping[str, pd.DataFrame]) -> None:
    """Refuse mistyped names, for which Great Expectations would silently check nothing."""
    for expectation in expectations:
        where = f"expectation '{expectation.title}'"
        if expectation.table not in tables:
            raise UserError(where, f"no table '{expectation.table}'; known: {', '.join(tables)}")
        if expectation.column not in (known := tables[expectation.table].columns):
            raise UserError(
                where, f"table '{expectation.table}' has no column '{expectation.column}'; known: {', '.join(known)}"
            )


def leakage_suite(accepted: bool) -> list[Expectation]:
    """Expectations that splits do not show the same ground; only warnings if an overlap is accepted."""
    return [
        Expectation(
            f"at least {OVERLAP_M:g} m between splits",
            "footprints",
            "neighbours",
            "distance",
            minimum=NEAREST_M,
            warning=accepted,
            needs="the positions of all patches, in geo files",
        ),
        Expectation(
            "no near-duplicates in two splits",
            "pixels",
            "neighbours",
            "equal_blocks",
            maximum=float(EQUAL_BLOCKS - 1),
            warning=accepted,
            needs="patches without positions: where all have them, distances tell",
        ),
    ]


def _release(statistics: pd.DataFrame) -> str | None:
    testing = statistics[statistics["split"] == "testing"].sort_values("index")
    return release(class_counts(statistics), testing["class"].tolist())


def _run(
    tables: Mapping[str, pd.DataFrame], expectations: list[Expectation], docs: Path, name: str
) -> list[ExpectationResult]:
    """Let Great Expectations check the tables and write Data Docs into an empty folder."""
    import great_expectations as gx
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.core.expect_column_values_to_be_between import (
        ExpectColumnValuesToBeBetween,
    )
    from great_expectations.expectations.metadata_types import FailureSeverity

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    for default in list(context.variables.data_docs_sites or {}):
        context.delete_data_docs_site(default)
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())}
    site: Any = {"class_name": "SiteBuilder", "show_how_to_buttons": False, "store_backend": store}
    context.add_data_docs_site("gate", site)
    source = context.data_sources.add_pandas("statistics")
    outcomes: dict[int, ExpectationResult] = {}
    for table, rows in tables.items():
        row_name = str(rows.columns[0])
        counts = rows.count()
        # Only the columns that are checked, since each expectation copies the table.
        columns = {e.column for e in expectations if e.table == table and counts[e.column]}
        rows = rows[[row_name, *sorted(columns)]]
        batch = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe(table)
        checks = context.suites.add(gx.ExpectationSuite(name=table))
        for number, expectation in enumerate(expectations):
            if expectation.table != table:
                continue
            if expectation.column not in columns:
                outcomes[number] = ExpectationResult(expectation, 0, 0, ())
            else:
                checks.add_expectation(
                    ExpectColumnValuesToBeBetween(
                        column=expectation.column,
                        min_value=expectation.minimum,
                        max_value=expectation.maximum,
                        severity=FailureSeverity.WARNING if expectation.warning else FailureSeverity.CRITICAL,
                        description=expectation.title,
                        meta={"number": number},
                    )
                )
        if not columns:
            continue
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=table, data=batch, suite=checks))
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(
                name=table,
                validation_definitions=[definition],
                result_format={
                    "result_format": "SUMMARY",
                    "unexpected_index_column_names": [row_name],
                    "partial_unexpected_count": EXAMPLES,
                },
            )
        )
        results = checkpoint.run(batch_parameters={"dataframe": rows}, run_id=RunIdentifier(run_name="gate"))
        for validation in results.run_results.values():
            for result in validation.results:
                config = result.expectation_config
                assert config is not None
                assert config.meta is not None
                number = config.meta["number"]
                if result.exception_info.get("raised_exception"):
                    raise RuntimeError(result.exception_info["exception_message"])
                rows_hit = result.result.get("partial_unexpected_index_list") or []
                outcomes[number] = ExpectationResult(
                    expectations[number],
                    int(counts[expectations[number].column]),
                    int(result.result["unexpected_count"]),
                    tuple(str(row[row_name]) for row in rows_hit[:EXAMPLES]),
                )
    context.build_data_docs()
    ordered = [outcomes[number] for number in range(len(expectations))]
    make_self_contained(docs, f"Quality gate of {name}", _lines(ordered))
    return ordered


def _lines(outcomes: list[ExpectationResult]) -> list[Line]:
    """Lines of the index. Channels that pass the same expectation share a line."""
    lines: dict[tuple[Status, str, str], list[ExpectationResult]] = {}
    for number, outcome in enumerate(outcomes):
        told = str(number) if outcome.violations else f"{outcome.checked} {outcome.expectation.table}"
        lines.setdefault((outcome.status, outcome.expectation.name, told), []).append(outcome)
    return [
        Line(
            status,
            len(alike),
            ", ".join(dict.fromkeys(outcome.expectation.target for outcome in alike)),
            name,
            f"{alike[0].violations} of {alike[0].checked} {alike[0].expectation.table}"
            if alike[0].checked
            else alike[0].expectation.why_not_checked,
            ", ".join(alike[0].examples),
        )
        for (status, name, _), alike in lines.items()
    ]


def _summary(root: Path, statistics: pd.DataFrame, outcomes: list[ExpectationResult], leakage: Leakage) -> GateSummary:
    """The facts of the data set that later stages need, without times and absolute paths."""
    sources, levels = set(), set()
    for split in SPLITS:
        with open_split(root, split) as reader:
            sources.add(reader.source)
            levels.add(reader.level)
            channels = reader.channels
    source = "; ".join(sorted(text for text in sources if text)) or None
    counts = class_counts(statistics)
    splits: dict[Split, SplitSummary] = {}
    bands: dict[Split, dict[str, BandSummary]] = {}
    for split in SPLITS:
        rows = statistics[statistics["split"] == split]
        splits[split] = SplitSummary(
            patches=len(rows),
            class_counts=tuple(counts[split]),
            cities=None if rows["city"].isna().all() else int(rows["city"].nunique()),
        )
        bands[split] = {band: BandSummary(**_rounded(band_statistics(rows, band))) for band in channels.names}
    release = _release(statistics)
    by_many = tuple(outcome.expectation.title for outcome in outcomes if outcome.expectation.by_many)
    return GateSummary(
        dataset=dataset_name(root),
        source=source,
        kind=data_kind(source, release),
        leakage=leakage,
        release=release,
        channels=channels,
        level=data_level(levels, release),
        splits=splits,
        bands=bands,
        expectations=tuple(
            ExpectationSummary(
                expectation=outcome.expectation.name,
                target=outcome.expectation.target,
                success=outcome.violations == 0,
                status=outcome.status,
                violations=outcome.violations,
                examples=outcome.examples,
            )
            for outcome in outcomes
            if outcome.checked
        ),
        not_checked=tuple(outcome.expectation.title for outcome in outcomes if not outcome.checked),
        too_few_patches={split: by_many for split in SPLITS if splits[split].patches < ENOUGH},
        warnings=tuple(str(outcome) for outcome in outcomes if outcome.violations),
    )


def data_kind(source: str | None, release: str | None) -> DataKind:
    """Kind of a data set, from the statements of its files and the release of its labels."""
    if source is not None and any(part.startswith("simulated") for part in source.split("; ")):
        return DataKind.SIMULATED
    if source is not None and "weak label" in source:
        return DataKind.WEAK_LABELS
    return DataKind.SO2SAT if release else DataKind.UNSTATED


def data_level(stated: Set[Level | None], release: str | None) -> Level | None:
    """Processing level of Sentinel-2, as the splits state it; So2Sat states none, but its release is known."""
    if stated == {None}:
        return PUBLISHED.level if release else None
    return next(iter(stated)) if len(stated) == 1 else None


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Round to 9 digits, so that another order of summation does not change the summary."""
    return {key: float(f"{value:.9g}") for key, value in values.items()}
