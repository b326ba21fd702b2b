"""ConvNeXt V2 (Woo et al. 2023) from transformers, small, with a stem of 2 x 2 pixels.

The stem of the published sizes divides the resolution by four, which would leave a patch of 32 x 32 pixels too
little to look at: here three stages work on 16, 8 and 4 pixels a side.
"""

from typing import Annotated

from pydantic import Field, PositiveInt, model_validator
from transformers import ConvNextV2Config, ConvNextV2Model

from bp_lcz.bands import PATCH_SIDE, Channels
from bp_lcz.model.streams import StreamBackbone, StreamOptions

STEM_SIDE = 2


class Options(StreamOptions):
    """Knobs of ConvNeXt V2."""

    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=4)] = (32, 64, 128)
    """Feature maps of each stage; each but the first halves the maps."""
    depths: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=4)] = (2, 2, 2)
    """Blocks of each stage."""

    @model_validator(mode="after")
    def _one_depth_for_each_width(self) -> "Options":
        if len(self.depths) != len(self.widths):
            raise ValueError(f"{len(self.widths)} widths but {len(self.depths)} depths")
        return self


class Network(StreamBackbone):
    """See the module."""

    def __init__(self, channels: Channels, options: Options) -> None:
        def make(channel_count: int) -> ConvNextV2Model:
            return ConvNextV2Model(
                ConvNextV2Config(
                    num_channels=channel_count,
                    image_size=PATCH_SIDE,
                    patch_size=STEM_SIDE,
                    num_stages=len(options.widths),
                    hidden_sizes=list(options.widths),
                    depths=list(options.depths),
                )
            )

        super().__init__(channels, options.fusion, make, options.widths[-1])
