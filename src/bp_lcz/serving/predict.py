"""Writes class probabilities of a file of patches as a table, in one pass and in constant memory."""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float32
from tqdm import tqdm

from bp_lcz.bands import Channels, Level
from bp_lcz.errors import UserError
from bp_lcz.files import staged_file
from bp_lcz.model.checkpoint import BATCH, DESCRIPTION, Classifier, load_classifier
from bp_lcz.model.memory import OF_BATCHES, keep_freed_memory
from bp_lcz.patches.likeness import too_many_unlike
from bp_lcz.patches.transform import first_not_finite, transform
from bp_lcz.scheme import CLASS_COUNT, ZONES
from bp_lcz.so2sat.geo import Geo, geo_file_of, read_geo_of
from bp_lcz.so2sat.layout import SplitReader, open_patches

_ROW_GROUP = 8192
_CODES, _NAMES = (np.array([getattr(zone, field) for zone in ZONES]) for field in ("code", "name"))


@dataclass(frozen=True)
class Prediction:
    """Summary of the predictions for a file.

    Attributes:
        patches: number of patches.
        agreement: share whose label is the predicted class; None without labels.
        unlike: number of patches that are unlike the training data; None if the model cannot tell.
        warnings: reasons why the classes may be wrong.
    """

    patches: int
    agreement: float | None
    unlike: int | None
    warnings: tuple[str, ...] = ()


def predict_file(workspace: Path, model: str, file: Path, out: Path) -> Prediction:
    """Write the predictions of a model for every patch of a file.

    Args:
        workspace: checkout or workspace, whose store holds a registered model.
        model: folder of a checkpoint, or ``models:/<name>@<alias>`` or ``models:/<name>/<version>``. Either way the
            installed package loads safetensors and JSON; nothing of the model is executed.
        file: HDF5 with ``sen1`` and ``sen2`` as So2Sat stores them, and optionally ``label``; it may hold more channels
            than the model takes. ``<name>_geo.h5`` beside it is used if it exists.
        out: parquet file to write: ``patch``, ``code``, ``name``, ``p_1`` to ``p_17`` in So2Sat's order of classes;
            ``unlike`` (the training data) if the model can tell; ``label`` (code, null if a row is not one-hot) if
            there are labels; ``city``, ``easting``, ``northing`` (m, upper left pixel), ``epsg`` if there is a geo
            file. The metadata of its schema name model, digest and data.

    Raises:
        UserError: if `out` cannot be written, has the suffix of another format, is an input file or lies in the
            model's folder, the model or the file cannot be read, the file has no patches or lacks a channel that the
            model takes, or a patch holds values that are not finite as float32 or for which the network gives no
            probabilities. Then nothing is written.
    """
    _refuse_overwriting(model, file, out)
    if out.suffix.lower() not in ("", ".parquet", ".pq"):
        raise UserError(out, "is written as Parquet; give it a name that ends in .parquet")
    with staged_file(out) as staged:  # first, so that an `out` that cannot be written fails before anything is computed
        return _write(workspace, model, file, staged)


def _refuse_overwriting(model: str, file: Path, out: Path) -> None:
    """Refuse to overwrite an input file, also through a link, or anything in the model's folder."""
    for read in (file, geo_file_of(file)) if file.is_file() else ():
        if _is_same_file(read, out):
            raise UserError(
                out, f"is the same file as {read}, which is an input; name another file for the predictions"
            )
    if Path(model).is_dir() and Path(os.path.realpath(out)).is_relative_to(os.path.realpath(model)):
        raise UserError(out, f"lies in the folder of the model; name a file outside {model}")


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them does not exist
        return False


def _write(workspace: Path, model: str, file: Path, out: Path) -> Prediction:
    classifier, _ = load_model(workspace, model)
    with open_patches(file, needs_labels=False) as reader:
        if reader.count == 0:
            raise UserError(file, "holds no patches")
        positions = _positions(reader, classifier.channels)
        geo = read_geo_of(file, reader.count)
        schema = _schema(classifier, model, reader, geo is not None)
        labelled = right = strange = 0
        with pq.ParquetWriter(out, schema) as writer:
            waiting: list[pa.Table] = []
            for start, probability, is_unlike, label in _predictions(reader, classifier, positions):
                table = _table(start, probability, is_unlike, label, geo, schema)
                strange += int(is_unlike.sum())
                waiting.append(table)
                if sum(map(len, waiting)) >= _ROW_GROUP:
                    writer.write_table(pa.concat_tables(waiting))
                    waiting.clear()
                if label is not None:
                    labelled += int((label >= 0).sum())
                    right += int((label == probability.argmax(1)).sum())
            if waiting:
                writer.write_table(pa.concat_tables(waiting))
        warnings = (
            other_level(classifier.description.level, reader.level),
            too_many_unlike(strange, reader.count),
        )
        return Prediction(
            reader.count,
            right / labelled if labelled else None,
            None if classifier.description.likeness is None else strange,
            tuple(filter(None, warnings)),
        )


def other_level(model: Level | None, found: Level | None) -> str | None:
    """A warning if Sentinel-2 has another level than the model was trained on; None if not, or if one is unknown."""
    if model is None or found is None or model == found:
        return None
    return (
        f"Sentinel-2 is of level {found}, but the model was trained on {model}; that gives a third to more "
        "than half of all patches another class"
    )


def load_model(workspace: Path, model: str) -> tuple[Classifier, str]:
    """Load a model from safetensors and JSON, onto the GPU if there is one.

    Args:
        workspace: checkout or workspace, whose store holds a registered model.
        model: folder of a checkpoint, or ``models:/<name>@<alias>`` or ``models:/<name>/<version>``, or a name of
            `PRETRAINED`, whose weights are then downloaded.

    Returns:
        The network and its name: that of the folder, ``<name>/<version>``, or of `PRETRAINED`.

    Raises:
        UserError: if there is no such model, or its files are missing, damaged, or not those that were registered.
    """
    keep_freed_memory(OF_BATCHES)  # so that each batch reuses the memory of the last one
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not model.startswith("models:"):
        if (Path(model) / DESCRIPTION).is_file():
            return load_classifier(Path(model), device), Path(model).resolve().name
        from bp_lcz.model.pretrained import PRETRAINED, write_pretrained

        if model in PRETRAINED and not Path(model).exists():
            with tempfile.TemporaryDirectory() as scratch:
                return load_classifier(write_pretrained(model, Path(scratch) / model), device), model
        raise UserError(
            model,
            f"is not a folder with a {DESCRIPTION}; expected a checkpoint, such as outputs/models/<trial>, "
            f"models:/<name>@<alias>, or {', '.join(PRETRAINED)}, which is downloaded",
        )
    from bp_lcz.registry.connection import open_store
    from bp_lcz.registry.fetch import fetch_classifier
    from bp_lcz.registry.versions import find_version

    with open_store(workspace) as client:
        version = find_version(client, model)
        return fetch_classifier(client, version, device), f"{version.name}/{version.version}"


def _predictions(
    reader: SplitReader, classifier: Classifier, positions: tuple[list[int], list[int]]
) -> Iterator[tuple[int, Float32[np.ndarray, "patch 17"], Bool[np.ndarray, " patch"], np.ndarray | None]]:
    """First patch, probabilities, likeness and class indices (-1 where a label is not one-hot) of each batch."""
    reader.check_unpacked()
    batches: Iterator[tuple[Any, ...]] = reader.chunks(BATCH) if reader.has_labels else reader.images(BATCH)
    with tqdm(total=reader.count, desc=f"predict {reader.path.name}", unit="patch") as progress:
        for start, sen1, sen2, *label in batches:
            for key, images in (("sen1", sen1), ("sen2", sen2)):
                if (patch := first_not_finite(images)) is not None:
                    raise UserError(reader.path, f"{key} of patch {start + patch} has values that are not finite")
            try:
                images = transform(sen1[..., positions[0]], sen2[..., positions[1]], classifier.channels)
                probability, is_unlike = classifier.classify_alike(torch.from_numpy(images), start)
            except UserError as error:
                raise UserError(reader.path, f"{error}") from None
            yield start, probability, is_unlike, _classes(label[0]) if label else None
            progress.update(len(probability))


def _classes(label: np.ndarray) -> np.ndarray:
    one_hot = (label != 0).sum(axis=1) == 1
    return np.where(one_hot, label.argmax(axis=1), -1)


def _positions(reader: SplitReader, channels: Channels) -> tuple[list[int], list[int]]:
    """Positions in the file of the channels that the model takes."""
    found = []
    for key in ("sen1", "sen2"):
        stored, wanted = getattr(reader.channels, key), getattr(channels, key)
        missing = [band for band in wanted if band not in stored]
        if missing:
            raise UserError(
                reader.path,
                f"{key} lacks {', '.join(missing)}, which the model takes; add them, or train a model without them on "
                "data of your own: `bp-lcz workspace NAME --dataset FOLDER`",
            )
        found.append([stored.index(band) for band in wanted])
    return found[0], found[1]


def _schema(classifier: Classifier, model: str, reader: SplitReader, has_geo: bool) -> pa.Schema:
    description = classifier.description
    fields = [("patch", pa.int64()), ("code", pa.string()), ("name", pa.string())]
    fields += [(f"p_{number}", pa.float32()) for number in range(1, CLASS_COUNT + 1)]
    if description.likeness is not None:
        fields.append(("unlike", pa.bool_()))
    if reader.has_labels:
        fields.append(("label", pa.string()))
    if has_geo:
        fields += [("city", pa.string()), ("easting", pa.float64()), ("northing", pa.float64()), ("epsg", pa.int64())]
    metadata = {
        "model": model,
        "trial": description.trial,
        "weights_sha256": description.weights_sha256,
        "trained_on": str(description.dataset),
        "kind": str(description.kind),
        "model_level": description.level or "not stated",
        "file": reader.path.name,
        "level": reader.level or "not stated",
        "source": reader.source or "not stated",
        "classes": json.dumps({f"p_{number}": zone.code for number, zone in enumerate(ZONES, 1)}),
    }
    return pa.schema(fields, metadata=metadata)


def _table(
    start: int,
    probability: Float32[np.ndarray, "patch 17"],
    is_unlike: Bool[np.ndarray, " patch"],
    label: np.ndarray | None,
    geo: Geo | None,
    schema: pa.Schema,
) -> pa.Table:
    rows = slice(start, start + len(probability))
    predicted = probability.argmax(axis=1)
    columns: dict[str, Any] = {
        "patch": np.arange(rows.start, rows.stop),
        "code": _CODES[predicted],
        "name": _NAMES[predicted],
        **{f"p_{number + 1}": probability[:, number] for number in range(CLASS_COUNT)},
        "unlike": is_unlike,
    }
    if label is not None:
        columns["label"] = pa.array(_CODES[label], pa.string(), mask=label < 0)
    if geo is not None:
        columns |= {key: getattr(geo, key)[rows] for key in ("city", "easting", "northing", "epsg")}
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
