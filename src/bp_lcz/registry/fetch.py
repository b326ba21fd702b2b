"""Files of runs and models from MLflow's artifact store. They are read as data; nothing in them is executed."""

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bp_lcz.errors import UserError
from bp_lcz.model.checkpoint import DESCRIPTION, WEIGHTS, Classifier, load_classifier
from bp_lcz.registry.connection import raise_unanswered, reason

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def fetch_artifact(client: "MlflowClient", run_id: str, file: str, sha256: str | None, where: str) -> bytes:
    """Content of a file of a run.

    Args:
        client: client of the store.
        run_id: identifier of the run.
        file: name among the artifacts of the run.
        sha256: digest that the file must have; None if the store holds none.
        where: name for the error message.

    Raises:
        TemporaryError: if the store does not answer.
        UserError: if the file is missing or is not the file that was stored.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            content = Path(client.download_artifacts(run_id, file, scratch)).read_bytes()
        except Exception as error:  # each kind of artifact store has exceptions of its own
            raise_unanswered(error, where)
            raise UserError(where, f"is not in the artifact store ({reason(error)})") from None
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(where, "is not the file that was stored (it has another sha256)")
    return content


def fetch_classifier(
    client: "MlflowClient", version: "ModelVersion", device: str = "cpu", keep: Path | None = None
) -> Classifier:
    """The network of a registered version, loaded by the installed package from safetensors and JSON.

    The code that a version carries for MLflow is not used.

    Args:
        client: client of the store.
        version: version of a registered model.
        device: device for the network.
        keep: new folder that keeps the two files of the checkpoint.

    Raises:
        TemporaryError: if the store does not answer.
        UserError: if its files are missing, damaged, or not those that were registered.
    """
    from mlflow.artifacts import download_artifacts

    where = f"{version.name} version {version.version}"
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        for file in (DESCRIPTION, WEIGHTS):
            try:
                source = client.get_model_version_download_uri(version.name, str(version.version))
                found = download_artifacts(f"{source}/artifacts/{_folder(version)}/{file}", dst_path=scratch)
            except Exception as error:  # each kind of artifact store has exceptions of its own
                raise_unanswered(error, where)
                raise UserError(where, f"its {file} is not in the artifact store ({reason(error)})") from None
            Path(found).rename(folder / file)
        try:
            classifier = load_classifier(folder, device)
        except UserError as error:
            raise UserError(where, f"{Path(error.where).name}: {error.what}") from None
    registered = version.tags.get("weights_sha256")
    if registered != classifier.description.weights_sha256:
        raise UserError(where, "its weights are not those that were registered (they have another sha256)")
    return classifier


def _folder(version: "ModelVersion") -> str:
    """Folder of the checkpoint among the artifacts: MLflow keeps the name of the folder that was logged."""
    return version.tags["trial"]
