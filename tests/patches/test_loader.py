"""Batches: whole, complete, and in an order that depends on seed and epoch alone."""

import threading
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bp_lcz.model.task import PatchModule
from bp_lcz.patches.loader import Batches, BatchOrder, chosen_patches, few_of_each_class
from bp_lcz.patches.store import Batch, MemoryStore, PackedStore
from tests.model.packed import small_trial, write_inputs
from tests.refusals import refuses


@given(count=st.integers(1, 300), batch_size=st.integers(1, 64), seed=st.integers(0, 9), epoch=st.integers(0, 5))
def test_an_epoch_visits_every_patch_once(count: int, batch_size: int, seed: int, epoch: int) -> None:
    order = BatchOrder(count, batch_size, seed)
    order.set_epoch(epoch)
    batches = list(order)
    assert len(batches) == len(order)
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_an_epoch_of_a_pool_visits_its_patches_once() -> None:
    order = BatchOrder(100, 4, seed=1, pool=np.array([3, 50, 7, 99, 8]))
    first = np.concatenate(list(order)).tolist()
    order.set_epoch(1)
    assert sorted(first) == sorted(np.concatenate(list(order)).tolist()) == [3, 7, 8, 50, 99]
    assert len(order) == 2


def test_few_patches_of_each_class_are_some_of_more_and_others_with_another_seed() -> None:
    labels = np.repeat([0, 3, 16], [50, 2, 40])
    few, more = (few_of_each_class(labels, most, seed=1) for most in (5, 20))
    assert np.bincount(labels[few], minlength=17)[[0, 3, 16]].tolist() == [5, 2, 5]
    assert set(few.tolist()) < set(more.tolist())
    assert few.tolist() != few_of_each_class(labels, 5, seed=2).tolist()


def test_classes_that_are_left_out_are_in_neither_training_nor_validation(tmp_path: Path) -> None:
    packed, _ = write_inputs(tmp_path)
    train = small_trial(leave_out=["2", "B"], per_class=3).train
    chosen = chosen_patches(train, packed, seed=1)
    for split, most in (("training", 3), ("validation", 2)):
        counts = np.bincount(PackedStore(packed, split).labels[chosen[split]], minlength=17)
        assert np.flatnonzero(counts == 0).tolist() == [1, 11]
        assert counts.max() == most
    assert chosen_patches(small_trial().train, packed, seed=1) == {}


def test_classes_without_which_nothing_is_left_are_refused(tmp_path: Path) -> None:
    packed, _ = write_inputs(tmp_path, {"training": 2, "validation": 2, "testing": 2})  # of classes 1 and 2
    with refuses("params.yaml", "train.leave_out", "training"):
        chosen_patches(small_trial(leave_out=["1", "2"]).train, packed, seed=1)


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


def module(packed: Path) -> PatchModule:
    return PatchModule(partial(PackedStore, packed), 16, seed=1)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))[0]


def test_validation_comes_in_the_order_of_the_file(packed: Path) -> None:
    labels = torch.cat([label for _, _, label in module(packed).val_dataloader()])
    assert labels.tolist() == PackedStore(packed, "validation").labels.tolist()


def test_a_batch_is_what_the_store_gathers(packed: Path) -> None:
    loader = module(packed).train_dataloader()
    first = next(iter(loader))
    indices = next(iter(BatchOrder(68, 16, seed=1)))
    for ours, stores in zip(first, PackedStore(packed, "training").gather(indices), strict=True):
        assert torch.equal(ours, stores)


class Watched(PackedStore):
    """Notes who gathers what; one patch cannot be read."""

    def __init__(self, folder: Path, unreadable: int | None = None) -> None:
        super().__init__(folder, "training")
        self.gathered: list[tuple[str, list[int]]] = []
        self.unreadable = unreadable
        self.second = threading.Event()

    def gather(self, indices: np.ndarray) -> Batch:
        if self.unreadable in indices:
            raise OSError("the disk is gone")
        self.gathered.append((threading.current_thread().name, indices.tolist()))
        if len(self.gathered) == 2:
            self.second.set()
        return super().gather(indices)


def test_the_next_batch_is_gathered_while_one_is_at_work(packed: Path) -> None:
    store, order = Watched(packed), BatchOrder(68, 16, seed=1)
    batches = iter(Batches(store, order))
    next(batches)
    # Nobody has asked for a second batch, and still it comes.
    assert store.second.wait(60)
    rest = list(batches)
    assert len(rest) == 4
    assert [indices for _, indices in store.gathered] == [indices.tolist() for indices in order]
    assert not any(thread == threading.current_thread().name for thread, _ in store.gathered)


def test_a_batch_that_cannot_be_read_is_an_error_of_the_epoch(packed: Path) -> None:
    order = BatchOrder(68, 16, seed=1)
    store = Watched(packed, unreadable=int(list(order)[2][5]))
    batches = iter(Batches(store, order))
    assert len(list(islice(batches, 2))) == 2
    with pytest.raises(OSError, match="gone"):
        next(batches)


def test_an_epoch_that_is_left_early_leaves_no_thread_behind(packed: Path) -> None:
    before = threading.active_count()
    batches = iter(Batches(PackedStore(packed, "training"), BatchOrder(68, 16, seed=1)))
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_the_trainer_finds_the_order_and_sets_its_epoch(packed: Path) -> None:
    loader, order = module(packed).train_dataloader(), BatchOrder(68, 16, seed=1)
    loader.sampler.set_epoch(3)
    order.set_epoch(3)
    first = PackedStore(packed, "training").gather(next(iter(order)))
    assert all(torch.equal(ours, stores) for ours, stores in zip(next(iter(loader)), first, strict=True))


def test_memory_is_gathered_by_the_thread_that_asks(packed: Path) -> None:
    store = MemoryStore(PackedStore(packed, "training"), torch.device("cpu"))
    before = threading.active_count()
    batches = iter(Batches(store, BatchOrder(68, 16, seed=1)))
    next(batches)
    assert threading.active_count() == before
    assert len(list(batches)) == 4
