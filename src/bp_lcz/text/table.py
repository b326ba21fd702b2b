"""The prompt table: embeddings of all class x group texts in one safetensors file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import normalize

from bp_lcz.bands import GROUPS
from bp_lcz.errors import UserError, one_line
from bp_lcz.files import staged_file
from bp_lcz.params import WORDINGS, PromptVectors
from bp_lcz.records import PromptOrigin
from bp_lcz.scheme import CLASS_COUNT


@dataclass(frozen=True)
class PromptTable:
    """Embeddings of the prompts and what made them.

    Attributes:
        embedding: unit vectors, wordings in the order of ``params.WORDINGS``, classes in So2Sat's order, groups in the
            order of ``bands.GROUPS``.
        class_embedding: unit vectors of the classes without a group.
        origin: their texts, and what made them.
    """

    embedding: Float[Tensor, "wording class group width"]
    class_embedding: Float[Tensor, "wording class width"]
    origin: PromptOrigin

    def vectors(
        self, groups: list[str] | None, settings: PromptVectors, seed: int
    ) -> Float[Tensor, "class group width"]:
        """Unit vectors that a network compares image groups with.

        Args:
            groups: of the data set; None for the classes without a group, as a single one.
            settings: texts or a control in their place.
            seed: of the trial, for a control that names no draw of its own.
        """
        wording = WORDINGS.index(settings.wording)
        if groups is None:
            found = self.class_embedding[wording, :, None]
        else:
            found = self.embedding[wording][:, [list(GROUPS).index(group) for group in groups]]
        random = np.random.default_rng(seed if settings.draw is None else settings.draw)
        if settings.source == "random":
            found = normalize(torch.from_numpy(random.standard_normal(found.shape, np.float32)), dim=-1)
        elif settings.source == "permuted":
            order = torch.from_numpy(random.permutation(found.shape[0] * found.shape[1]))
            found = found.flatten(0, 1)[order].unflatten(0, found.shape[:2])
        return normalize(found - found.mean((0, 1)), dim=-1) if settings.centre else found

    def write(self, path: Path) -> None:
        """Write the table in one step; equal tables give equal bytes."""
        # One JSON string: safetensors keeps several metadata entries in an order that varies by process.
        metadata = {"bp_lcz": self.origin.content()}
        with staged_file(path) as file:
            tensors = {"embedding": self.embedding, "class_embedding": self.class_embedding}
            file.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata))


def read_prompt_table(path: Path) -> PromptTable:
    """Read a prompt table.

    Raises:
        UserError: if the file is missing, damaged, of another format, or not a table of 17 classes and 7 groups.
    """
    if not path.is_file():
        raise UserError(path, f"not found; {PromptOrigin.remedy}")
    try:
        with safe_open(path, "pt") as file:
            embedding, class_embedding = file.get_tensor("embedding"), file.get_tensor("class_embedding")
            origin = file.metadata()["bp_lcz"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(path, f"not a readable prompt table ({one_line(error)})") from None
    if embedding.shape[:3] != (len(WORDINGS), CLASS_COUNT, len(GROUPS)) or not torch.isfinite(embedding).all():
        raise UserError(path, f"embeddings of shape {tuple(embedding.shape)}; expected (2, 17, 7, width)")
    return PromptTable(embedding, class_embedding, PromptOrigin.parse(origin.encode(), path))
