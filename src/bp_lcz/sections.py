"""A YAML file of sections, checked against frozen models: ``params.yaml``, profiles and the like."""

from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from yaml.reader import ReaderError

from bp_lcz.errors import UserError, first_mistake, one_line


class Section(BaseModel):
    """A part of a file of parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False)


SectionT = TypeVar("SectionT", bound=Section)


def read_sections(content: bytes, file: str) -> dict[str, Any]:
    """The sections of a file, unchecked.

    Args:
        content: the bytes of the file.
        file: its name for the messages.

    Raises:
        UserError: if it is not UTF-8, YAML or a mapping, or has a key twice or a value that cannot be read.
    """
    try:
        text = content.decode("utf-8")
        sections = yaml.load(text, _UniqueKeyLoader)
    except UnicodeDecodeError:
        raise UserError(file, "not a text file in UTF-8") from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(file, f"not valid YAML: {error.reason} (#x{error.character:04x}) in line {line}") from None
    except yaml.MarkedYAMLError as error:
        parts = ((error.context, error.context_mark), (error.problem, error.problem_mark))
        told = ", ".join(f"{part} in line {mark.line + 1}" for part, mark in parts if part and mark)
        raise UserError(file, f"not valid YAML: {told}") from None
    except (ValueError, RecursionError) as error:  # ValueError: a date such as 2025-02-30
        raise UserError(file, f"not valid YAML: {one_line(error)}") from None
    if not isinstance(sections, dict):
        raise UserError(file, "expected a mapping of sections")
    return sections


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses duplicate keys, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {key.value}", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


def parse_section(section: type[SectionT], values: Any, where: str, file: str = "params.yaml") -> SectionT:
    """Check one section.

    Args:
        section: model of the section.
        values: content of the section.
        where: key of the section, for messages.
        file: name of the file, for messages.

    Raises:
        UserError: at an unknown key or a value out of range; the text names the key and the cause, and the known keys.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        message = first_mistake(error, where, section)
        if message.startswith("cells:"):
            message += "; it is now called trials"
        raise UserError(file, message) from None
