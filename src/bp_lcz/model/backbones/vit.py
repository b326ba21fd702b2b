"""Vision transformer (Dosovitskiy et al. 2021) from transformers, small, with tokens of 4 x 4 pixels."""

from typing import Literal

from pydantic import PositiveInt, model_validator
from transformers import ViTConfig, ViTModel

from bp_lcz.bands import PATCH_SIDE, Channels
from bp_lcz.model.streams import StreamBackbone, StreamOptions


class Options(StreamOptions):
    """Knobs of ViT."""

    token_size: Literal[2, 4, 8, 16] = 4
    """Pixels along a side of a token: a divisor of the patch side."""
    width: PositiveInt = 96
    """Length of a token."""
    layers: PositiveInt = 4
    """Transformer blocks."""
    heads: PositiveInt = 4
    """Attention heads; must divide the width."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "Options":
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide width {self.width}")
        return self


class Network(StreamBackbone):
    """See the module."""

    def __init__(self, channels: Channels, options: Options) -> None:
        def make(channel_count: int) -> ViTModel:
            return ViTModel(
                ViTConfig(
                    num_channels=channel_count,
                    image_size=PATCH_SIDE,
                    patch_size=options.token_size,
                    hidden_size=options.width,
                    pooler_output_size=options.width,
                    num_hidden_layers=options.layers,
                    num_attention_heads=options.heads,
                    intermediate_size=2 * options.width,
                )
            )

        super().__init__(channels, options.fusion, make, options.width)
