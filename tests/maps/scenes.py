"""A scene in memory, and a network that tells which pixels it was asked about."""

from typing import Any

import numpy as np
import torch
from affine import Affine
from rasterio.crs import CRS

from bp_lcz.bands import SEN2_BANDS, Channels
from bp_lcz.model.checkpoint import Classified, Classifier
from bp_lcz.records import SceneFindings
from bp_lcz.scenes.scene import Scene, Strip
from bp_lcz.sensors.raster import Grid
from tests.model.networks import network_of, trial_of
from tests.records import described

OPTICAL = Channels((), SEN2_BANDS)


class ArrayScene(Scene):
    """Each pixel of band n holds its row, its column, or n.

    Args:
        height: pixels.
        width: pixels.
        channels: those present.
    """

    def __init__(self, height: int, width: int, channels: Channels = OPTICAL) -> None:
        place = Affine(10, 0, 389_890, 0, -10, 5_820_110)
        self.grid = self.ground = Grid(CRS.from_epsg(32633), place, width, height)
        self.channels, self.level, self.area = channels, "L1C", None
        self.findings = SceneFindings(crs="EPSG:32633", level="L1C", files=())
        row, column = np.indices((height, width), np.float32)
        bands = [np.full_like(row, number) for number in range(len(channels.sen2) - 2)]
        self.sen2 = np.stack([row, column, *bands])
        self.sen1 = np.stack([np.full_like(row, 1 + number) for number in range(len(channels.sen1))] or [row])[
            : len(channels.sen1)
        ]
        self.wrong = {key: np.zeros((height, width), bool) for key in ("sen1", "sen2", "masked", "outside")}

    def strip(self, row: int, rows: int = 32) -> Strip:
        assert row >= 0
        assert row + rows <= self.grid.height
        part = slice(row, row + rows)
        wrong = {key: values[part] for key, values in self.wrong.items()}
        return Strip(
            self.sen1[:, part],
            self.sen2[:, part],
            ~wrong["sen1"],
            ~wrong["sen2"],
            wrong["masked"],
            wrong["outside"],
        )


class Spy(Classifier):
    """Gives the patch whose corner is at row 10 i, column 10 j the zone (3 i + j) % 17, and keeps all it sees.

    Patches of the zone ``strange`` are unlike its training data.
    """

    def classify_alike(self, images: torch.Tensor, first: int = 0, *, are_standardised: bool = False) -> Classified:
        assert are_standardised  # by mean 0 and deviation 1
        self.__dict__.setdefault("seen", []).append(images.numpy().copy())
        corner = images[:, 0, 0, -len(self.channels.sen2) :].numpy()
        zone = (3 * corner[:, 0] / 10 + corner[:, 1] / 10).astype(int) % 17
        return np.where(np.arange(17) == zone[:, None], 0.68, 0.02).astype(np.float32), zone + 1 == self.__dict__[
            "strange"
        ]

    @property
    def patches(self) -> np.ndarray:
        return np.concatenate(self.__dict__.get("seen", [np.empty((0, 32, 32, len(self.channels.names)))]))


def classifier_of(backbone: str = "eb_cnn", channels: Channels = OPTICAL, kind: Any = Classifier) -> Any:
    form = trial_of(backbone)
    return kind(
        network_of(backbone, channels=channels).eval(),
        channels,
        described(form, channels).model_copy(update={"level": "L1C"}),
        "cpu",
    )


def spy(channels: Channels = OPTICAL, strange: int | None = None) -> Spy:
    network = classifier_of(channels=channels, kind=Spy)
    network.__dict__["strange"] = strange
    network.network.mean.zero_()
    network.network.std.fill_(1)
    return network
