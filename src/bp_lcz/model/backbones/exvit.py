"""ExViT, the extended vision transformer: one token for each pixel, first apart for each sensor, then together.

Source: Yao et al., IEEE TGRS 61, 2023. With 8 + 10 channels, 32 x 32 pixels, token side 1 and 17 classes it has
291,462 parameters with its classifier. A token for several pixels is not of the paper: it is there because 2,048
joint tokens train a few patches a second on a CPU.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle, scaled_dot_product_attention

from bp_lcz.bands import PATCH_SIDE, Channels
from bp_lcz.model.backbones import Backbone, Features

STEM_WIDTHS = (16, 32, 64)
WIDTH = 64
HEADS = 4
MLP_WIDTH = 32
SENSOR_BLOCKS = 4
JOINT_BLOCKS = 2


class Options(BaseModel):
    """Knobs of ExViT."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_size: Literal[1, 2, 4, 8, 16, 32] = 1
    """Pixels along a side of a token: a divisor of the patch side. 1 is the paper's."""


class Attention(nn.Module):
    """Multi-head self-attention; torch's fused form, which never holds the matrix of all pairs of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.project = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        """Tokens mixed by softmax(Q K^T / sqrt(16)) V in each head."""
        split = self.query_key_value(tokens).unflatten(2, (3, HEADS, -1))  # (B, T, 3, heads, 16)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (B, heads, T, 16)
        mixed = scaled_dot_product_attention(query, key, value)
        return self.project(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(WIDTH), Attention())
        self.mlp = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, MLP_WIDTH), nn.GELU(), nn.Linear(MLP_WIDTH, WIDTH)
        )

    def forward(self, tokens: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        """Tokens after attention and multilayer perceptron, both as residuals."""
        tokens = tokens + self.attention(tokens)
        return tokens + self.mlp(tokens)


class Stem(nn.Module):
    """Tokens of one sensor, still without their positions."""

    def __init__(self, channel_count: int, token_size: int) -> None:
        super().__init__()
        self.token_size = token_size
        layers: list[nn.Module] = []
        width = channel_count
        for next_width in STEM_WIDTHS:
            layers += [
                nn.Conv2d(width, width, kernel_size=3, padding=1, groups=width),
                nn.Conv2d(width, next_width, kernel_size=1),
                nn.BatchNorm2d(next_width),
                nn.GELU(),
            ]
            width = next_width
        self.convolutions = nn.Sequential(*layers)
        self.embed = nn.Linear(width * token_size**2, WIDTH)

    def forward(self, images: Float[Tensor, "batch channel row column"]) -> Float[Tensor, "batch token width"]:
        """Row by row from the upper left corner."""
        maps = pixel_unshuffle(self.convolutions(images), self.token_size)
        return self.embed(maps.flatten(2).transpose(1, 2))


class Network(Backbone):
    """See the module."""

    fused_width = WIDTH
    group_width = None

    def __init__(self, channels: Channels, options: Options) -> None:
        super().__init__()
        self.require_sensors(channels)
        token_count = (PATCH_SIDE // options.token_size) ** 2
        self.stems = nn.ModuleList(Stem(len(bands), options.token_size) for bands in (channels.sen1, channels.sen2))
        self.positions = nn.Parameter(torch.empty(token_count, WIDTH))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.apart = nn.ModuleList(nn.Sequential(*[Block() for _ in range(SENSOR_BLOCKS)]) for _ in self.stems)
        self.together = nn.Sequential(*[Block() for _ in range(JOINT_BLOCKS)])
        self.score = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 1))

    def forward(
        self,
        sen1: Float[Tensor, "batch channel1 row column"],
        sen2: Float[Tensor, "batch channel2 row column"],
    ) -> Features:
        """The mean of all tokens, weighted by learnt scores; no group features."""
        tokens = torch.cat(
            [
                blocks(stem(images) + self.positions)
                for stem, blocks, images in zip(self.stems, self.apart, (sen1, sen2), strict=True)
            ],
            dim=1,
        )
        tokens = self.together(tokens)
        weight = self.score(tokens).softmax(dim=1)  # (B, T, 1)
        return Features((weight * tokens).sum(dim=1), None)

    def classifier(self, class_count: int) -> nn.Module:
        """A normalised feature, then one linear layer."""
        return nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, class_count))
