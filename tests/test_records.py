"""What passes between rooms as JSON: read whole and of this format, or one line that says why not."""

import json
from pathlib import Path
from typing import Any

import pytest

from bp_lcz.errors import UserError
from bp_lcz.records import MOST_BYTES, Part, Record, Timings
from tests import schemas
from tests.refusals import refuses

TIMINGS = Timings(
    seconds=0.1, epochs=2, patches_per_second=1e22, peak_memory_mib=3.0, threads=1, machine="Linux x86_64"
)


def test_a_record_comes_back_and_equal_records_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        TIMINGS.write(tmp_path / name)
    assert Timings.read(tmp_path / "one") == TIMINGS
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    keys = list(json.loads((tmp_path / "one").read_text()))
    assert keys == sorted(keys)


@pytest.mark.parametrize("number", [1, 3, None, "2"])
def test_another_format_is_one_line_that_names_both(tmp_path: Path, number: object) -> None:
    TIMINGS.write(tmp_path / "timings.json")
    content = json.loads((tmp_path / "timings.json").read_text()) | {"format": number, "unheard": 1}
    (tmp_path / "timings.json").write_text(json.dumps(content))
    found = number if isinstance(number, int) else "unknown"
    with refuses(tmp_path / "timings.json", f"format {found}", 2, "`dvc repro`"):
        Timings.read(tmp_path / "timings.json")


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"unheard": 1}, "unheard: unknown key"),
        ({"epochs": "two"}, "epochs"),
        ({"epochs": 1.5}, "epochs"),
        ({"seconds": float("nan")}, "seconds"),
        ({"machine": "x" * MOST_BYTES}, f"{MOST_BYTES:,}"),
    ],
)
def test_an_unknown_key_or_a_wrong_value_is_one_line(tmp_path: Path, change: dict[str, object], fact: str) -> None:
    content = TIMINGS.model_dump(mode="json") | change
    with refuses("timings.json", "damaged", fact, "`dvc repro`"):
        Timings.parse(json.dumps(content).encode(), "timings.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 200_000])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "timings.json").write_bytes(content)
    with refuses(tmp_path / "timings.json", "damaged", "`dvc repro`"):
        Timings.read(tmp_path / "timings.json")


def test_a_missing_file_and_a_folder_in_its_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"/timings\.json: not found; run `dvc repro`$"):
        Timings.read(tmp_path / "timings.json")
    with refuses(tmp_path, "unreadable"):
        Timings.read(tmp_path)


def test_a_change_of_a_record_raises_its_format() -> None:
    committed, found = json.loads(schemas.FILE.read_text()), schemas.of_records()
    forgotten = schemas.forgotten(committed, found)
    assert not forgotten, f"{', '.join(forgotten)}: fields changed; raise `format`, then {schemas.RENEW}"
    assert committed == found, f"formats were raised; {schemas.RENEW}"


def test_the_digest_of_a_record_knows_fields_types_and_parts_and_no_words() -> None:
    def digest(**changes: Any) -> str:
        space = {"__annotations__": {"format": int, "part": float}, "format": 1, "__doc__": "Words."} | changes
        return schemas.digest(type("Example", (Record,), space))

    class Inner(Part):
        number: float

    class Changed(Part):
        number: int

    inner, changed = ({"__annotations__": {"format": int, "part": part}} for part in (Inner, Changed))
    digests = [digest(), digest(**inner), digest(**changed), digest(part=1.0), digest(format=2)]
    assert len({*digests}) == 4
    assert digest(__doc__="Other words.", format=2) == digest()


def test_digests_are_not_renewed_where_a_format_was_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(schemas, "FILE", tmp_path / "schemas.json")
    assert schemas.main() is None
    now = json.loads(schemas.FILE.read_text())
    schemas.FILE.write_text(json.dumps(now | {"Timings": now["Timings"] | {"sha256": "of other fields"}}))
    with pytest.raises(SystemExit, match="Timings"):
        schemas.main()
    schemas.FILE.write_text(json.dumps(now | {"Timings": {"format": 1, "sha256": "of other fields"}}))
    schemas.main()
    assert json.loads(schemas.FILE.read_text()) == now
