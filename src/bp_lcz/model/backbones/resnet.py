"""ResNet (He et al. 2016) from transformers, shallow enough for patches of 32 x 32 pixels.

Its stem divides the resolution by four, so three stages work on 8, 4 and 2 pixels a side.
"""

from typing import Annotated

from pydantic import Field, PositiveInt, model_validator
from transformers import ResNetConfig, ResNetModel

from bp_lcz.bands import Channels
from bp_lcz.model.streams import StreamBackbone, StreamOptions


class Options(StreamOptions):
    """Knobs of ResNet."""

    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=4)] = (32, 64, 128)
    """Feature maps of each stage; each but the first halves the maps."""
    depths: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=4)] = (2, 2, 2)
    """Residual blocks of each stage."""

    @model_validator(mode="after")
    def _one_depth_for_each_width(self) -> "Options":
        if len(self.depths) != len(self.widths):
            raise ValueError(f"{len(self.widths)} widths but {len(self.depths)} depths")
        return self


class Network(StreamBackbone):
    """See the module."""

    def __init__(self, channels: Channels, options: Options) -> None:
        def make(channel_count: int) -> ResNetModel:
            return ResNetModel(
                ResNetConfig(
                    num_channels=channel_count,
                    embedding_size=options.widths[0],
                    hidden_sizes=list(options.widths),
                    depths=list(options.depths),
                    layer_type="basic",
                )
            )

        super().__init__(channels, options.fusion, make, options.widths[-1])
