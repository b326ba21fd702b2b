"""Base of all records: strict and frozen models with one reader and one writer."""

import json
from pathlib import Path
from typing import ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bp_lcz.errors import UserError, first_mistake, one_line
from bp_lcz.files import staged_file

MOST_BYTES = 2**20


class Part(BaseModel):
    """Something inside a record."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


RecordT = TypeVar("RecordT", bound="Record")


class Record(Part):
    """A JSON file; equal records give equal bytes.

    Attributes:
        remedy: advice for a file that is damaged or of another version.
        format: number of the version of the content.
    """

    remedy: ClassVar[str] = "run `dvc repro`"
    format: int

    @classmethod
    def read(cls: type[RecordT], path: Path) -> RecordT:
        """Read a file.

        Raises:
            UserError: if it is missing, cannot be read, or for the reasons of `parse`.
        """
        try:
            with path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            raise UserError(path, f"not found; {cls.remedy}") from None
        except OSError as error:
            raise UserError(path, f"unreadable: {one_line(error)}") from None
        return cls.parse(content, path)

    @classmethod
    def parse(cls: type[RecordT], content: bytes, where: object) -> RecordT:
        """Check the content of a file.

        Args:
            content: bytes of the file.
            where: name of the file for messages.

        Raises:
            UserError: if it is damaged, has another format number, an unknown key, or a value of another type.
        """
        try:
            if len(content) > MOST_BYTES:
                raise ValueError(f"larger than {MOST_BYTES:,} bytes")
            found = json.loads(content)
            if not isinstance(found, dict):
                raise ValueError("no JSON object")
            number, expected = found.get("format"), cls.model_fields["format"].default
            if number != expected:
                number = number if isinstance(number, int) else "unknown"
                raise UserError(
                    where,
                    f"written by another version of BP-LCZ (format {number}, this one reads {expected}); {cls.remedy}",
                )
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise UserError(where, f"damaged: {first_mistake(error)}; {cls.remedy}") from None
        except (ValueError, RecursionError) as error:
            raise UserError(where, f"damaged: {one_line(error)}; {cls.remedy}") from None

    def content(self) -> str:
        """The content of the file."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        """Write the file in one step."""
        with staged_file(path) as file:
            file.write_text(self.content(), encoding="utf-8")
