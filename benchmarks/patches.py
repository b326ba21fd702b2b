"""Files of patches for the benchmark: in the official form, packed, and of any size."""

import os
from pathlib import Path

import numpy as np

from benchmarks.harness import NotMeasuredError, Setup
from bp_lcz.bands import ALL_CHANNELS, PATCH_SIDE
from bp_lcz.files import staged_folder
from bp_lcz.params import SPLITS
from bp_lcz.patches.pack import pack
from bp_lcz.patches.store import PackedStore
from bp_lcz.records import DataKind, GateSummary, Leakage, PackManifest, SplitSummary
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.so2sat.writer import new_patches

PATCHES = 4096
"""Number of patches of the benchmark's file: 600 MB, twenty times the last-level cache."""

PATCH_VALUES = PATCH_SIDE**2 * len(ALL_CHANNELS.names)
STORED_BYTES = 8 * (PATCH_VALUES + CLASS_COUNT)
PACKED_BYTES = 4 * PATCH_VALUES

SLAB = 512


def dataset(setup: Setup, patches: int | None = None) -> Path:
    """A data set in the form of the official files, contiguous float64. It is made once and kept for other rows.

    Values repeat every `SLAB` patches, and all patches have one position, since no reader checks them.
    """
    patches = patches or (64 if setup.quick else PATCHES)
    root = setup.folder / f"so2sat-{patches}"
    if root.exists():
        return root
    rng, side, slab = np.random.default_rng(1), (PATCH_SIDE, PATCH_SIDE), min(patches, SLAB)
    values = {
        "sen1": rng.exponential(0.05, (slab, *side, len(ALL_CHANNELS.sen1))),
        "sen2": rng.uniform(0, 0.4, (slab, *side, len(ALL_CHANNELS.sen2))),
        "label": np.eye(CLASS_COUNT)[np.arange(slab) % CLASS_COUNT],
        "epsg": np.full(slab, 32632),
        "tfw": np.tile([10.0, 0, 0, -10, 500_000, 5_000_000], (slab, 1)),
        "city": np.full(slab, b"benchmark"),
    }
    with staged_folder(root) as folder:
        for split, count in zip(SPLITS, (patches, CLASS_COUNT, CLASS_COUNT), strict=True):
            with new_patches(folder / f"{split}.h5", ALL_CHANNELS, count) as writer:
                for start in range(0, count, slab):
                    writer.add(**{key: part[: count - start] for key, part in values.items()})
    return root


def packed(setup: Setup) -> Path:
    """The same data set, packed by the code of the stage."""
    root = dataset(setup)
    folder = root / "packed"
    if not folder.exists():
        sizes = (64 if setup.quick else PATCHES, CLASS_COUNT, CLASS_COUNT)
        summary = GateSummary(
            dataset="benchmark",
            source=None,
            kind=DataKind.UNSTATED,
            leakage=Leakage(status="none", pairs=0, distance=None),
            channels=ALL_CHANNELS,
            release=None,
            splits={
                split: SplitSummary(patches=size, class_counts=(), cities=None)
                for split, size in zip(SPLITS, sizes, strict=True)
            },
            bands={},
            expectations=(),
            not_checked=(),
            too_few_patches={},
            warnings=(),
        )
        pack(root, summary, folder)
    return folder


def sparse_packed(setup: Setup, patches: int) -> PackedStore:
    """A packed split of any size in a sparse file, of which only the patches that are read take memory."""
    folder = setup.folder / f"sparse-{patches}"
    if not folder.exists():
        folder.mkdir()
        np.lib.format.open_memmap(folder / "training.images.npy", "w+", np.float32, (patches, PATCH_VALUES))
        labels = np.arange(patches) % CLASS_COUNT
        np.save(folder / "training.labels.npy", labels)
        np.save(folder / "training.blocks.npy", labels)
        counts = tuple(np.bincount(labels, minlength=CLASS_COUNT).tolist())
        manifest = PackManifest.read(packed(setup) / "manifest.json")
        manifest.model_copy(update={"class_counts": dict.fromkeys(SPLITS, counts)}).write(folder / "manifest.json")
    return PackedStore(folder, "training")


def evict(path: Path) -> None:
    """Drop an unmapped file from the page cache, after writing it to disk (unwritten pages cannot be dropped)."""
    if not hasattr(os, "posix_fadvise"):
        raise NotMeasuredError("this system cannot drop a file from the page cache")
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
