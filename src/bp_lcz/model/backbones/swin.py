"""Swin transformer (Liu et al. 2021) from transformers, small: tokens of 2 x 2 pixels, windows of 4 x 4 tokens."""

from typing import Annotated

from pydantic import Field, PositiveInt, model_validator
from transformers import SwinConfig, SwinModel

from bp_lcz.bands import PATCH_SIDE, Channels
from bp_lcz.model.streams import StreamBackbone, StreamOptions

TOKEN_SIZE = 2
WINDOW = 4


class Options(StreamOptions):
    """Knobs of Swin."""

    width: PositiveInt = 32
    """Length of a token in the first stage; each further stage doubles it and halves the map."""
    depths: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=3)] = (2, 2, 2)
    """Transformer blocks of each stage; every second one shifts its windows."""
    head_width: PositiveInt = 16
    """Length of a token within an attention head; must divide the width."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "Options":
        if self.width % self.head_width:
            raise ValueError(f"head_width {self.head_width} does not divide width {self.width}")
        return self


class Network(StreamBackbone):
    """See the module."""

    def __init__(self, channels: Channels, options: Options) -> None:
        stages = len(options.depths)

        def make(channel_count: int) -> SwinModel:
            return SwinModel(
                SwinConfig(
                    num_channels=channel_count,
                    image_size=PATCH_SIDE,
                    patch_size=TOKEN_SIZE,
                    window_size=WINDOW,
                    embed_dim=options.width,
                    depths=list(options.depths),
                    num_heads=[options.width * 2**stage // options.head_width for stage in range(stages)],
                )
            )

        super().__init__(channels, options.fusion, make, options.width * 2 ** (stages - 1))
