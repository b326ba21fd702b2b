"""A trained trial as an MLflow model: signature, example, requirements and code, complete for serving."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

import bp_lcz
from bp_lcz.bands import PATCH_SIDE, Channels
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.so2sat.layout import open_split

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

REQUIREMENTS = ("h5py", "jaxtyping", "mlflow", "numpy", "pydantic", "pyyaml", "safetensors", "torch", "transformers")
"""Packages that loading and running any trained trial imports. The code of ``bp_lcz`` travels with the model."""

Patches = dict[str, Float[np.ndarray, "patch 32 32 channel"]]


@dataclass(frozen=True)
class Package:
    """A model in the store.

    Attributes:
        uri: address by which MLflow loads the model.
        model_id: identifier of the logged model.
    """

    uri: str
    model_id: str


def log_package(run_id: str, checkpoint: Path, card: Path, channels: Channels, example: Patches, code: Path) -> Package:
    """Add a trained trial to its run as a model that MLflow can serve.

    Args:
        run_id: run of the trial in the current tracking store.
        checkpoint: folder with model.safetensors and model.json.
        card: file with the model card.
        channels: channels of the data set.
        example: a few patches that show the form of the input.
        code: folder of the package ``bp_lcz`` that trained the trial.
    """
    import mlflow

    with mlflow.start_run(run_id=run_id):
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={"checkpoint": checkpoint.absolute().as_uri(), "card": card.as_uri()},
            code_paths=[str(code)],
            signature=signature(channels),
            input_example=example,
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS],
        )
    return Package(info.model_uri, info.model_id)


def signature(channels: Channels) -> "ModelSignature":
    """The form of a served model: two named arrays in, probabilities out.

    float64 is the type of So2Sat. MLflow refuses other types, so float32 patches need ``astype("float64")``. The
    probabilities are the same to the bit, since the network computes with float32 either way.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    inputs: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype(np.float64), (-1, PATCH_SIDE, PATCH_SIDE, len(bands)), name)
        for name, bands in (("sen1", channels.sen1), ("sen2", channels.sen2))
    ]
    output = TensorSpec(np.dtype(np.float32), (-1, CLASS_COUNT))
    return ModelSignature(inputs=Schema(inputs), outputs=Schema([output]))


def example_patches(root: Path, count: int = 2) -> Patches:
    """The first patches of the testing split, as a served model takes them."""
    with open_split(root, "testing") as reader:
        _, sen1, sen2, _ = next(reader.chunks(rows=count))
    return {"sen1": sen1.astype(np.float64), "sen2": sen2.astype(np.float64)}


def code_folder(workspace: Path) -> Path:
    """The package that trained the trials of a workspace: the workspace's own, or the running one if it has none."""
    own = workspace / "src" / bp_lcz.__name__
    return own if own.is_dir() else Path(bp_lcz.__file__).parent
