"""The model that MLflow serves. This file travels with the model, and MLflow runs it when it loads the model.

It reads a trained trial from safetensors and JSON. Nothing is unpickled.
"""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class LocalClimateZones(PythonModel):
    """Class probabilities of patches as stored in So2Sat; normalisation is inside."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the trained trial that was registered."""
        from bp_lcz.model.checkpoint import load_classifier

        self.classifier = load_classifier(Path(context.artifacts["checkpoint"]))

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> np.ndarray:
        """Probabilities (N, 17) for ``sen1`` (N, 32, 32, C1) and ``sen2`` (N, 32, 32, C2).

        ``model_input`` is really the mapping of two arrays that the signature demands. MLflow reads the annotation, and
        would warn about a correct one.
        """
        return self.classifier.predict_proba(model_input["sen1"], model_input["sen2"])


set_model(LocalClimateZones())
