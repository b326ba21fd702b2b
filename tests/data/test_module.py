"""Batches: whole, complete, and in an order that depends on seed and epoch alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bp_lcz.data.module import BatchOrder, PatchModule
from bp_lcz.data.store import PackedStore
from tests.model.packed import write_inputs


@given(count=st.integers(1, 300), batch_size=st.integers(1, 64), seed=st.integers(0, 9), epoch=st.integers(0, 5))
def test_an_epoch_visits_every_patch_once(count: int, batch_size: int, seed: int, epoch: int) -> None:
    order = BatchOrder(count, batch_size, seed)
    order.set_epoch(epoch)
    batches = list(order)
    assert len(batches) == len(order)
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    assert all(len(batch) == batch_size for batch in batches[:-1])


@given(count=st.integers(1, 100), batch_size=st.integers(1, 32), processes=st.integers(1, 5), epoch=st.integers(0, 3))
def test_several_processes_share_each_batch(count: int, batch_size: int, processes: int, epoch: int) -> None:
    whole, shares = (
        BatchOrder(count, batch_size, 1),
        [BatchOrder(count, batch_size, 1, (number, processes)) for number in range(processes)],
    )
    for order in (whole, *shares):
        order.set_epoch(epoch)
    for batch, *parts in zip(whole, *shares, strict=True):
        if len(batch) >= processes:
            assert sorted(np.concatenate(parts).tolist()) == sorted(batch.tolist())
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
        else:  # too few to share: each has all of them
            assert all(part.tolist() == batch.tolist() for part in parts)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def visited(seed: int, epoch: int) -> list[int]:
        order = BatchOrder(100, 7, seed)
        order.set_epoch(epoch)
        return np.concatenate(list(order)).tolist()

    assert visited(1, 4) == visited(1, 4)
    assert visited(1, 4) != visited(1, 5)
    assert visited(1, 4) != visited(2, 4)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))[0]


def test_validation_comes_in_the_order_of_the_file(packed: Path) -> None:
    labels = torch.cat([label for _, _, label in PatchModule(packed, 16, seed=1).val_dataloader()])
    assert labels.tolist() == PackedStore(packed, "validation").labels.tolist()


def test_a_batch_is_what_the_store_gathers(packed: Path) -> None:
    loader = PatchModule(packed, 16, seed=1).train_dataloader()
    first = next(iter(loader))
    indices = next(iter(BatchOrder(68, 16, seed=1)))
    for ours, stores in zip(first, PackedStore(packed, "training").gather(indices), strict=True):
        assert torch.equal(ours, stores)
