"""Finds versions of registered models, and their runs."""

import re
from typing import TYPE_CHECKING

from bp_lcz.errors import UserError
from bp_lcz.registry.connection import is_missing

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

CHAMPION, CHALLENGER = "champion", "challenger"
"""Aliases of the version that is served and of the one that was registered last."""

_MODEL_URI = re.compile(r"models:/(?P<name>[^/:@'\"\\]+)(?:@(?P<alias>[\w-]+)|/(?P<version>\d+))")


def find_version(client: "MlflowClient", uri: str) -> "ModelVersion":
    """The version that ``models:/<name>@<alias>`` or ``models:/<name>/<version>`` names.

    Raises:
        UserError: if the address has another form, or there is no such model or version.
    """
    from mlflow.exceptions import MlflowException

    match = _MODEL_URI.fullmatch(uri)
    if match is None:
        raise UserError(uri, "expected models:/<name>@<alias> or models:/<name>/<version>")
    name, alias = match["name"], match["alias"]
    number = match["version"] or registered_model(client, name).aliases.get(alias)
    try:
        if number is not None:
            return client.get_model_version(name, str(number))
    except MlflowException as error:
        if not is_missing(error):
            raise
        registered_model(client, name)  # if the model does not exist either, this says so
    hint = f"promote first: `bp-lcz promote {name}`" if alias == CHAMPION else f"see `bp-lcz models {name}`"
    raise UserError(uri, f"no such version; {hint}")


def find_champion(client: "MlflowClient", name: str) -> "ModelVersion | None":
    """The version with the alias ``champion``, or None.

    Raises:
        UserError: if there is no such model.
    """
    number = registered_model(client, name).aliases.get(CHAMPION)
    return None if number is None else client.get_model_version(name, str(number))


def registered_model(client: "MlflowClient", name: str) -> "RegisteredModel":
    """The model with this name.

    Raises:
        UserError: if there is none.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise UserError(name, "no such registered model; `make reproduce` registers one") from None


def run_of(client: "MlflowClient", version: "ModelVersion") -> "Run":
    """The run of a version.

    Raises:
        UserError: if it was removed for good, as `mlflow gc` does.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(str(version.run_id))
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise UserError(
            f"{version.name} version {version.version}",
            f"its run {version.run_id} was removed from MLflow, and with it the predictions and decisions of the "
            "version",
        ) from None
