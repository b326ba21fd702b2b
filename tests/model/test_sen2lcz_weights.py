"""The import of Keras weights, against a plain NumPy forward pass and the published network's own answers."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio

from bp_lcz.bands import SEN2_BANDS
from bp_lcz.model.checkpoint import load_classifier
from bp_lcz.model.sen2lcz_weights import convert_sen2lcz
from tests.refusals import refuses

Arrays = dict[str, np.ndarray]
WIDTHS = (16, 32, 64, 128)
HEADS = {"dense_1": 32, "dense_2": 64, "dense_5": 128, "dense_4": 128}


def random_weights(seed: int = 0) -> Arrays:
    """Arrays of every layer under the names that Keras gives them, of sizes that keep signals alive."""
    rng = np.random.default_rng(seed)
    arrays: Arrays = {}
    width, number = 10, 0
    for next_width in WIDTHS:
        for _ in range(4):
            number += 1
            spread = np.sqrt(2 / (9 * width))
            arrays[f"conv2d_{number}/kernel"] = rng.normal(scale=spread, size=(3, 3, width, next_width))
            arrays[f"conv2d_{number}/bias"] = rng.normal(scale=0.1, size=next_width)
            norm = f"batch_normalization_{number}"
            arrays[f"{norm}/gamma"] = rng.uniform(0.5, 1.5, size=next_width)
            arrays[f"{norm}/beta"] = rng.normal(scale=0.1, size=next_width)
            arrays[f"{norm}/moving_mean"] = rng.normal(scale=0.1, size=next_width)
            # Some so small that the epsilon of Keras matters.
            arrays[f"{norm}/moving_variance"] = rng.choice([0.003, 0.5, 2.0], size=next_width)
            width = next_width
        width = 2 * next_width
    for head, head_width in HEADS.items():
        arrays[f"{head}/kernel"] = rng.normal(scale=head_width**-0.5, size=(head_width, 17))
        arrays[f"{head}/bias"] = rng.normal(scale=0.1, size=17)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def write_keras(file: Path, arrays: Arrays) -> Path:
    """Write arrays as Keras 2 does with ``save_weights``."""
    with h5py.File(file, "w") as content:
        layers = sorted({name.split("/")[0] for name in arrays})
        content.attrs["layer_names"] = [layer.encode() for layer in [*layers, "dropout_1"]]
        content.attrs["backend"] = "tensorflow"
        content.attrs["keras_version"] = "2.1.5"
        content.create_group("dropout_1").attrs["weight_names"] = np.array([])
        for name, array in arrays.items():
            layer, parameter = name.split("/")
            content[f"{layer}/{layer}/{parameter}:0"] = array
    return file


def read_keras(file: Path) -> Arrays:
    with h5py.File(file) as content:
        layers = [layer for layer in content if layer in content[layer]]
        return {
            f"{layer}/{name[:-2]}": content[layer][layer][name][:] for layer in layers for name in content[layer][layer]
        }


def numpy_forward(arrays: Arrays, reflectance: np.ndarray) -> np.ndarray:
    """Probabilities (N, 17) of patches (N, 32, 32, 10), in float64 and in Keras' own axes."""
    weights = {name: array.astype(np.float64) for name, array in arrays.items()}
    maps, number, probabilities = reflectance.astype(np.float64), 0, []
    for head in HEADS:
        for _ in range(4):
            number += 1
            kernel = weights[f"conv2d_{number}/kernel"]
            rows, columns = maps.shape[1:3]
            padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
            convolved = weights[f"conv2d_{number}/bias"] + sum(
                np.einsum("nrci,io->nrco", padded[:, i : i + rows, j : j + columns], kernel[i, j], optimize=True)
                for i in range(3)
                for j in range(3)
            )
            gamma, beta, mean, variance = (
                weights[f"batch_normalization_{number}/{name}"]
                for name in ("gamma", "beta", "moving_mean", "moving_variance")
            )
            maps = np.maximum(gamma * (convolved - mean) / np.sqrt(variance + 1e-3) + beta, 0)
        if maps.shape[1] > 4:
            corners = [maps[:, i::2, j::2] for i in range(2) for j in range(2)]
            maps = np.concatenate([np.maximum.reduce(corners), sum(corners) / 4], axis=-1)
        scores = maps.mean(axis=(1, 2)) @ weights[f"{head}/kernel"] + weights[f"{head}/bias"]
        exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities.append(exponents / exponents.sum(axis=1, keepdims=True))
    return np.mean(probabilities, axis=0)


def without_sen1(sen2: np.ndarray) -> np.ndarray:
    return np.empty((*sen2.shape[:3], 0), np.float32)


def reflectance(count: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 1, size=(count, 32, 32, 10)) ** 2


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_keras(tmp_path_factory.mktemp("keras") / "weights.hdf5", random_weights())


def test_imported_weights_agree_with_a_numpy_forward_pass(weights: Path, tmp_path: Path) -> None:
    classifier = load_classifier(convert_sen2lcz(weights, tmp_path / "out"))
    sen2 = reflectance(4) * np.array([1.0, 0.2, 3.0, 0.01])[:, None, None, None]
    expected = numpy_forward(random_weights(), sen2)
    np.testing.assert_allclose(classifier.predict_proba(without_sen1(sen2), sen2), expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 0.01


def test_the_checkpoint_tells_its_channels_size_and_origin(weights: Path, tmp_path: Path) -> None:
    classifier = load_classifier(convert_sen2lcz(weights, tmp_path / "out"))
    assert classifier.channels.sen1 == ()
    assert classifier.channels.sen2 == SEN2_BANDS
    assert classifier.description.level == "L1C"
    description = json.loads((tmp_path / "out" / "model.json").read_text())
    assert description["parameters"] == 793_348 - 2 * 4 * sum(WIDTHS)  # without the statistics of normalisation
    assert "origin and licence unknown; imported from weights.hdf5, sha256 " in description["source"]
    assert (description["seed"], description["train"], description["model"]) == (None, None, None)


def test_sentinel_1_is_refused_since_the_network_never_saw_it(weights: Path, tmp_path: Path) -> None:
    classifier = load_classifier(convert_sen2lcz(weights, tmp_path / "out"))
    sen2 = reflectance(1)
    with refuses("sen1", "(1, 32, 32, 8)", "(N, 32, 32, 0)"):
        classifier.predict_proba(np.zeros((1, 32, 32, 8)), sen2)


def changed(name: str, array: np.ndarray | None) -> Arrays:
    arrays = random_weights() | ({} if array is None else {name: array})
    return {key: value for key, value in arrays.items() if array is not None or key != name}


@pytest.mark.parametrize(
    ("arrays", "key", "fact"),
    [
        (changed("conv2d_7/kernel", None), "conv2d_7/conv2d_7/kernel:0", "lacks"),
        (changed("dense_5/bias", None), "dense_5/dense_5/bias:0", "lacks"),
        (changed("dense_4/kernel", np.zeros((64, 17))), "dense_4/dense_4/kernel:0", "(128, 17)"),
        (changed("conv2d_1/kernel", np.zeros((3, 3, 13, 16))), "conv2d_1/conv2d_1/kernel:0", "(3, 3, 10, 16)"),
        (changed("conv2d_17/bias", np.zeros(4)), "conv2d_17/conv2d_17/bias:0", "Sen2LCZ-MF"),
        (changed("dense_1/bias", np.full(17, np.nan)), "dense_1/dense_1/bias:0", "finite"),
        ({}, "conv2d_1/conv2d_1/kernel:0", "lacks"),
    ],
)
def test_weights_of_another_network_are_named_and_nothing_is_written(
    arrays: Arrays, key: str, fact: str, tmp_path: Path
) -> None:
    file = write_keras(tmp_path / "w.hdf5", arrays)
    with refuses(file, key, fact):
        convert_sen2lcz(file, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["w.hdf5"]


@pytest.mark.parametrize(
    ("spoil", "fact"),
    [
        (lambda file: file.unlink(), "not found"),
        (lambda file: file.write_text("no weights"), "HDF5"),
        (lambda file: file.write_bytes(file.read_bytes()[:5000]), "HDF5"),
        (lambda file: file.write_bytes(file.read_bytes().replace(b"HEAP", b"HEAX")), "HDF5"),
    ],
)
def test_an_unreadable_file_is_named(weights: Path, spoil: Callable[[Path], object], fact: str, tmp_path: Path) -> None:
    file = tmp_path / "w.hdf5"
    file.write_bytes(weights.read_bytes())
    spoil(file)
    with refuses(file, fact):
        convert_sen2lcz(file, tmp_path / "out")


def test_a_folder_that_exists_is_left_as_it_is(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("mine")
    with refuses(tmp_path / "out", "exists"):
        convert_sen2lcz(weights, tmp_path / "out")
    assert (tmp_path / "out" / "diary.txt").read_text() == "mine"


def some_patches(dn: np.ndarray, added: float) -> np.ndarray:
    """25 patches of a site as reflectance, (25, 32, 32, 10)."""
    windows = np.lib.stride_tricks.sliding_window_view((dn - added) / 10_000, (32, 32), axis=(1, 2))
    return windows[:, ::48, ::48].transpose(1, 2, 3, 4, 0).reshape(-1, 32, 32, len(dn))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("site", "l1c_offset", "l2a_offset"),
    [("282D_485L_3_3", 1000, 0), ("38D_378R_2_3", 0, 0), ("433D_629L_3_1", 1000, 1000)],
)
def test_a_wrong_offset_or_level_of_real_sites_is_unlike_what_the_published_weights_were_trained_on(
    shared_data: Path, tmp_path: Path, site: str, l1c_offset: int, l2a_offset: int
) -> None:
    published = shared_data / "weights/sen2lcz_drop_32_weights.best.hdf5"
    classifier = load_classifier(convert_sen2lcz(published, tmp_path / "out"))

    def unlike(sen2: np.ndarray) -> float:
        return float(classifier.classify(without_sen1(sen2), sen2)[1].mean())

    with rasterio.open(shared_data / f"scenes/{site}/s2_l1c_13bands_dn.tif") as file:
        l1c = file.read((2, 3, 4, 5, 6, 7, 8, 9, 12, 13)).astype(float)
    with rasterio.open(shared_data / f"scenes/{site}/s2_l2a_12bands_dn.tif") as file:
        l2a = file.read((2, 3, 4, 5, 6, 7, 8, 9, 11, 12)).astype(float)
    assert unlike(some_patches(l1c, l1c_offset)) <= 0.08
    assert unlike(some_patches(l1c, l1c_offset - 1000)) >= 0.4  # left in
    assert unlike(some_patches(l1c, l1c_offset + 1000).clip(0)) >= 0.4  # taken off twice
    assert unlike(some_patches(l1c, l1c_offset) * 10_000) == 1
    assert unlike(some_patches(l2a, l2a_offset).clip(0)) >= 0.4


@pytest.mark.shared
def test_published_weights_agree_with_a_numpy_forward_pass_on_real_patches(shared_data: Path, tmp_path: Path) -> None:
    published = shared_data / "weights/sen2lcz_drop_32_weights.best.hdf5"
    with h5py.File(shared_data / "real_mini/testing.h5") as content:
        sen2 = content["sen2"][:6]
    classifier = load_classifier(convert_sen2lcz(published, tmp_path / "out"))
    assert classifier.description.source.startswith("published weights of Sen2LCZ-MF")
    expected = numpy_forward(read_keras(published), sen2)
    np.testing.assert_allclose(classifier.predict_proba(without_sen1(sen2), sen2), expected, atol=1e-5)


@pytest.mark.shared
@pytest.mark.parametrize("split", ["training", "validation", "testing"])
def test_published_weights_give_the_stored_probabilities_of_real_patches(
    shared_data: Path, tmp_path: Path, split: str
) -> None:
    published = shared_data / "weights/sen2lcz_drop_32_weights.best.hdf5"
    with h5py.File(shared_data / f"real_mini/{split}.h5") as content:
        sen2, expected = content["sen2"][:], content["teacher_probability"][:]
    classifier = load_classifier(convert_sen2lcz(published, tmp_path / "out"))
    np.testing.assert_allclose(classifier.predict_proba(without_sen1(sen2), sen2), expected, atol=1e-4)
