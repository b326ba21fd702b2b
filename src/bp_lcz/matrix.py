"""A short form for the trials of a profile and their order."""

from typing import Any

from pydantic import Field, NonNegativeInt, model_validator

from bp_lcz.params import Variant
from bp_lcz.sections import Section


class Block(Section):
    """Consecutive trials of a matrix: all rows of the block with the first seed, then all with the next seed."""

    rows: list[str] = Field(min_length=1)
    seeds: list[NonNegativeInt] = Field(min_length=1)


class Matrix(Section):
    """A matrix of trials, which ``bp-lcz workspace`` expands under ``trials``.

    A row is a trial without its seed. Each row is trained with every seed, as the trial ``<row>-s<seed>``.
    """

    seeds: list[NonNegativeInt]
    backbones: dict[str, str] = Field(default_factory=dict)
    """Name in rows and module of each backbone. It gets a row ``<name>-<variant>`` for every variant."""
    variants: list[Variant] = Field(default_factory=list)
    rows: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Other rows by name: the content of a trial without its seed."""
    order: list[Block] = Field(default_factory=list)
    """Blocks that come first. Other trials follow, backbones before other rows, with the seeds of a row together."""

    @model_validator(mode="after")
    def _order_names_trials(self) -> "Matrix":
        if unknown := self._first().keys() - {name for name, _ in self._written_out()}:
            raise ValueError(f"order: no trial {min(unknown)}")
        return self

    def trials(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and content of each trial, in order."""
        first = self._first()
        return sorted(self._written_out(), key=lambda trial: first.get(trial[0], len(first)))

    def _first(self) -> dict[str, int]:
        names = (f"{row}-s{seed}" for block in self.order for seed in block.seeds for row in block.rows)
        return {name: place for place, name in enumerate(dict.fromkeys(names))}

    def _written_out(self) -> list[tuple[str, dict[str, Any]]]:
        rows = [
            (f"{name}-{variant}", {"backbone": backbone, "variant": variant})
            for name, backbone in self.backbones.items()
            for variant in self.variants
        ]
        return [
            (f"{name}-s{seed}", {**row, "seed": seed})
            for name, row in [*rows, *self.rows.items()]
            for seed in self.seeds
        ]
