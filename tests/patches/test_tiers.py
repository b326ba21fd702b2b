"""Every tier gives the same batches, bit for bit, and says clearly when it cannot be had."""

from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bp_lcz.bands import ALL_CHANNELS, Channels
from bp_lcz.params import Tier
from bp_lcz.patches import store as store_module
from bp_lcz.patches import tiers
from bp_lcz.patches.hdf5_store import Hdf5Store
from bp_lcz.patches.loader import Batches, BatchOrder
from bp_lcz.patches.pack import pack
from bp_lcz.patches.store import MemoryStore, PackedStore, PatchStore, PinnedStore, ReadAhead
from bp_lcz.patches.tiers import choose_tier, open_store
from tests.patches.test_pack import summary
from tests.refusals import refuses
from tests.so2sat.patches import edit, write_dataset

CPU = torch.device("cpu")
TIERS: tuple[Tier, ...] = ("auto", "packed", "device", "hdf5")
FEW_CHANNELS = Channels(("VV_lee_intensity", "C12_lee_real"), ("B04", "B11", "B02"))


def write(base: Path, channels: Channels = ALL_CHANNELS, dtype: str = "<f8") -> Path:
    pack(write_dataset(base / "mine", channels=channels, dtype=np.dtype(dtype)), summary(channels), base / "packed")
    return base


@pytest.fixture(scope="module", params=["<f8", ">f4", "few"])
def folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    base = tmp_path_factory.mktemp("tiers")
    if request.param == "few":
        return write(base, FEW_CHANNELS)
    write(base, dtype=request.param)
    # Values at which a transform could differ between ways of calling it.
    with h5py.File(base / "mine/training.h5", "a") as file:
        file["sen1"][0] = 0
        file["sen1"][1] = -1e-40
        file["sen1"][2] = 1e30
        file["sen1"][33, ..., 5] = np.nan
    pack(base / "mine", summary(), base / "packed")
    return base


def opened(folder: Path, tier: Tier) -> PatchStore:
    return open_store(tier, "training", folder / "packed", folder / "mine", CPU)


def same(first: tuple[torch.Tensor, ...], second: tuple[torch.Tensor, ...]) -> bool:
    """Equal in values, bit for bit, and in how they lie in memory."""
    return all(
        torch.equal(a.view(torch.int32), b.view(torch.int32)) and a.stride() == b.stride() and a.dtype == b.dtype
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("tier", TIERS)
@settings(max_examples=40, deadline=None)
@given(indices=st.lists(st.integers(0, 33), min_size=1, max_size=70))
def test_a_batch_has_the_same_bits_in_every_tier(folder: Path, tier: Tier, indices: list[int]) -> None:
    position = np.array(indices, dtype=np.int64)
    reference = PackedStore(folder / "packed", "training").gather(position)
    store = opened(folder, tier)
    assert store.channels == PackedStore(folder / "packed", "training").channels
    assert len(store) == 34
    assert same(store.gather(position), reference)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("epoch", [0, 3])
def test_a_shuffled_epoch_is_the_same_in_every_tier(folder: Path, tier: Tier, epoch: int) -> None:
    def batches(tier: Tier) -> list[tuple[torch.Tensor, ...]]:
        order = BatchOrder(34, 8, seed=5)
        order.set_epoch(epoch)
        return list(Batches(opened(folder, tier), order))

    ours, reference = batches(tier), batches("packed")
    assert len(ours) == len(reference) == 5
    assert all(same(*pair) for pair in zip(ours, reference, strict=True))


def test_tiers_are_what_they_say(folder: Path) -> None:
    kinds = {tier: type(opened(folder, tier)) for tier in TIERS}
    assert kinds == {"auto": PackedStore, "packed": PackedStore, "device": MemoryStore, "hdf5": Hdf5Store}


def test_what_is_stored_comes_out_in_float32(folder: Path) -> None:
    sen1, sen2 = Hdf5Store(folder / "mine", "training").stored(np.array([7, 3, 3]))
    with h5py.File(folder / "mine/training.h5") as file:
        for ours, key in ((sen1, "sen1"), (sen2, "sen2")):
            np.testing.assert_array_equal(ours, np.stack([file[key][i] for i in (7, 3, 3)]).astype(np.float32))


@pytest.mark.parametrize(
    ("nbytes", "free", "tier"),
    [(10**12, None, "packed"), (10, None, "packed"), (50, 100, "device"), (51, 100, "pinned")],
)
def test_auto_goes_by_the_size_of_the_split_and_the_memory_of_the_gpu(nbytes: int, free: int | None, tier: str) -> None:
    assert choose_tier(nbytes, free) == tier


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A data set that a test may damage."""
    return write(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU that the test wants missing")
def test_pinned_without_a_gpu_is_an_error_not_a_fallback(own: Path) -> None:
    with refuses("params.yaml", "store: pinned", "GPU"):
        opened(own, "pinned")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("tier", ["pinned", "device", "auto"])
def test_batches_on_a_gpu_have_the_same_bits(own: Path, tier: Tier) -> None:
    store = open_store(tier, "training", own / "packed", own / "mine", torch.device("cuda"))
    assert isinstance(store, PinnedStore if tier == "pinned" else MemoryStore)
    for batch, indices in zip(Batches(store, BatchOrder(34, 8, 1)), BatchOrder(34, 8, 1), strict=True):
        reference = PackedStore(own / "packed", "training").gather(indices)
        assert all(part.is_pinned() if tier == "pinned" else part.is_cuda for part in batch)
        assert same(tuple(part.cpu() for part in batch), reference)


def test_a_split_that_does_not_fit_is_an_error_that_says_how_much(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 1000

    monkeypatch.setattr(tiers.psutil, "virtual_memory", Memory)
    with refuses("params.yaml", "store: device", "GiB", "auto"):
        opened(own, "device")


def test_a_compressed_file_cannot_be_mapped(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "mine", storage="gzip")
    with refuses(root / "training.h5", "sen1", "packed", "auto"):
        Hdf5Store(root, "training")


def test_a_file_other_than_the_packed_one_is_named(own: Path) -> None:
    edit(own / "mine", "training", "label", np.eye(17)[np.zeros(34, int)])
    with refuses(own / "mine/training.h5", own / "packed", "`bp-lcz pack`"):
        opened(own, "hdf5")


@pytest.mark.parametrize(("available", "again"), [(1099, [(428, 100), (9158, 10)]), (1100 * 2, [])])
def test_patches_are_announced_before_they_are_read_and_again_only_where_pages_do_not_stay(
    own: Path, monkeypatch: pytest.MonkeyPatch, available: int, again: list[tuple[int, int]]
) -> None:
    asked = []
    monkeypatch.setattr(store_module.psutil, "virtual_memory", lambda: SimpleNamespace(available=available))
    monkeypatch.setattr(store_module.os, "posix_fadvise", lambda _, start, size, __: asked.append((start, size)))
    ahead = ReadAhead(own / "packed/training.images.npy", [(128, 100), (9128, 10)], 10)
    ahead(np.array([3, 0]))
    assert asked == [(428, 100), (128, 100), (9158, 10), (9128, 10)]
    asked.clear()
    ahead(np.array([3]))
    assert asked == again
