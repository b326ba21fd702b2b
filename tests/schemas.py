"""Digests of the fields of every record beside its format number, so that a change without a new number is seen.

    python -m tests.schemas

writes them anew, unless a format number was forgotten.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bp_lcz.files import staged_file
from bp_lcz.records import Record

FILE = Path(__file__).with_name("schemas.json")
RENEW = "`python -m tests.schemas` renews tests/schemas.json"

Digests = Mapping[str, Mapping[str, Any]]


def of_records() -> Digests:
    """Format and digest of every record by its name."""
    found = {record.__name__: record for record in _records(Record)}
    return {
        name: {"format": record.model_fields["format"].default, "sha256": digest(record)}
        for name, record in sorted(found.items())
    }


def forgotten(committed: Digests, found: Digests) -> list[str]:
    """Records whose fields changed under the same number."""
    return [
        name
        for name, now in found.items()
        if name in committed and now != committed[name] and now["format"] <= committed[name]["format"]
    ]


def digest(record: type[Record]) -> str:
    """Of names, types and defaults of all fields and of those inside them, without the number and any words."""
    schema = record.model_json_schema(mode="validation")
    schema["properties"].pop("format")
    return hashlib.sha256(json.dumps(_without_words(schema), sort_keys=True).encode()).hexdigest()


def _records(of: type[Record]) -> Iterator[type[Record]]:
    for record in of.__subclasses__():
        if record.__module__.startswith("bp_lcz.") and not record.model_fields["format"].is_required():
            yield record
        yield from _records(record)


def _without_words(value: Any, is_names: bool = False) -> Any:
    """Descriptions and titles left out, but for fields that are called so."""
    if isinstance(value, list):
        return [_without_words(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _without_words(each, is_names=key in ("properties", "$defs"))
        for key, each in value.items()
        if is_names or key not in ("title", "description")
    }


def main() -> None:
    """Write the digests, unless a number was forgotten."""
    found = of_records()
    if FILE.exists() and (names := forgotten(json.loads(FILE.read_text("utf-8")), found)):
        raise SystemExit(f"{', '.join(names)}: fields changed; raise `format` first")
    with staged_file(FILE) as file:
        file.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
