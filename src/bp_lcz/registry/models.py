"""The versions of a registered model with their numbers."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bp_lcz.records import VersionRow
from bp_lcz.registry.connection import is_missing, open_store
from bp_lcz.registry.versions import registered_model
from bp_lcz.scoring.score import text_table

_COLUMNS = ("version", "alias", "trial", "OA", "kappa", "interval", "data", "kind", "date")


def list_models(workspace: Path, name: str) -> list[VersionRow]:
    """One row for each version, newest first.

    Raises:
        UserError: if there is no such model.
    """
    from mlflow.exceptions import MlflowException

    rows = []
    with open_store(workspace) as client:
        aliases = registered_model(client, name).aliases
        for version in client.search_model_versions(f"name = '{name}'"):
            try:
                metrics = client.get_run(str(version.run_id)).data.metrics
            except MlflowException as error:
                if not is_missing(error):
                    raise
                metrics = {}
            low, high = (metrics.get(f"testing_kappa_{end}") for end in ("low", "high"))
            number = str(version.version)
            rows.append(
                VersionRow(
                    version=int(number),
                    aliases=tuple(sorted(alias for alias, target in aliases.items() if str(target) == number)),
                    oa=metrics.get("testing_oa"),
                    kappa=metrics.get("testing_kappa"),
                    kappa_interval=None if low is None or high is None else (low, high),
                    created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat("T", "seconds"),
                    **{key: version.tags.get(key) for key in ("trial", "dataset", "data_md5", "kind", "promotion")},
                )
            )
    return sorted(rows, key=lambda row: -row.version)


def models_table(rows: Sequence[VersionRow]) -> str:
    """The versions as a table for a terminal."""
    texts = [
        [
            str(row.version),
            ",".join(f"@{alias}" for alias in row.aliases) or "-",
            row.trial or "-",
            *("-" if score is None else f"{score:.3f}" for score in (row.oa, row.kappa)),
            "-" if row.kappa_interval is None else "{:.3f}..{:.3f}".format(*row.kappa_interval),
            f"{row.dataset} {(row.data_md5 or '-')[:8]}",
            row.kind or "-",
            row.created[:10],
        ]
        for row in rows
    ]
    return "\n".join(text_table([_COLUMNS, *texts]))
