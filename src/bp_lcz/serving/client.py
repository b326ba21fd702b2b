"""A client of the scoring server: patches in, class probabilities out, the encoding inside.

It talks to `bp-lcz serve` and to `mlflow models serve` alike, and needs neither torch nor MLflow.
"""

import http.client
import io
import json
import urllib.error
import urllib.request
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Float32
from numpy.typing import ArrayLike

from bp_lcz.addresses import is_local
from bp_lcz.bands import PATCH_SIDE
from bp_lcz.errors import UserError
from bp_lcz.patches.transform import first_not_finite
from bp_lcz.scheme import CLASS_COUNT

JSON = "application/json"
PARQUET = "application/vnd.apache.parquet"
BATCH = 64
"""Patches per request: 9 MiB of parquet with all channels."""

Encoding = Literal["parquet", "json"]


class Client:
    """A scoring server.

    Args:
        url: of the server, as `bp-lcz serve` prints it.
        encoding: of requests; JSON is four times as large and much slower to read.
        timeout: seconds to wait for an answer.

    Example: ``Client("http://127.0.0.1:5001").predict_proba(sen1, sen2)``
    """

    def __init__(self, url: str, encoding: Encoding = "parquet", timeout: float = 60.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise UserError(url, "expected http://host:port")
        self._url = url.rstrip("/")
        self._content_type = JSON if encoding == "json" else PARQUET
        self._encode = encode_json if encoding == "json" else encode_parquet
        self._timeout = timeout
        # Whoever imports this module has not called `keep_loopback_direct`.
        proxies = [urllib.request.ProxyHandler({})] if is_local(urlsplit(url).hostname) else []
        self._open = urllib.request.build_opener(*proxies).open

    def predict_proba(self, sen1: ArrayLike, sen2: ArrayLike) -> Float32[np.ndarray, "patch 17"]:
        """Class probabilities of raw patches, as `bp_lcz.model.checkpoint.Classifier.predict_proba` gives them.

        Args:
            sen1: (N, 32, 32, C1) as So2Sat stores it: an array, or what NumPy makes one of, of floating-point numbers.
            sen2: (N, 32, 32, C2) likewise.

        Raises:
            UserError: if these are no such arrays, the numbers of patches differ, a value is not finite as float32,
                there is no answer or none of a scoring server, or it refuses; the text is its reason.
        """
        images = _patches("sen1", sen1), _patches("sen2", sen2)
        count = len(images[0])
        if count != len(images[1]):
            raise UserError("sen1", f"has {count} patches, sen2 {len(images[1])}")
        answers = [self._invoke(*(part[start : start + BATCH] for part in images)) for start in range(0, count, BATCH)]
        return np.concatenate([*answers, np.empty((0, CLASS_COUNT), np.float32)])

    def is_healthy(self) -> bool:
        """Whether the server answers."""
        try:
            with self._open(f"{self._url}/health", timeout=self._timeout):
                return True
        except (OSError, ValueError, http.client.HTTPException):
            return False

    def _invoke(self, sen1: np.ndarray, sen2: np.ndarray) -> Float32[np.ndarray, "patch 17"]:
        request = urllib.request.Request(
            f"{self._url}/invocations", self._encode(sen1, sen2), {"Content-Type": self._content_type}
        )
        try:
            with self._open(request, timeout=self._timeout) as answer:
                predictions = np.array(json.load(answer)["predictions"], np.float32)
        except urllib.error.HTTPError as error:
            raise UserError(self._url, f"{error.code}: {_reason(error)}") from None
        except (KeyError, TypeError):
            raise UserError(self._url, "an answer without predictions; is this a scoring server?") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise UserError(self._url, f"no answer ({getattr(error, 'reason', error)})") from None
        if predictions.shape != (len(sen1), CLASS_COUNT):
            raise UserError(self._url, f"predictions of shape {predictions.shape} for {len(sen1)} patches")
        return predictions


def _patches(key: str, images: ArrayLike) -> Float[np.ndarray, "patch 32 32 channel"]:
    """Patches as an array of float32 or float64, checked here, where a patch has the caller's number."""
    try:
        values = np.asarray(images)
    except (ValueError, TypeError):
        raise UserError(key, "not a rectangular array") from None
    if values.ndim != 4 or values.shape[1:3] != (PATCH_SIDE, PATCH_SIDE):
        raise UserError(key, f"shape {values.shape}; expected (N, {PATCH_SIDE}, {PATCH_SIDE}, channels)")
    if values.dtype.kind != "f":
        raise UserError(key, f"holds {values.dtype}; expected floating-point numbers")
    if (patch := first_not_finite(values)) is not None:
        raise UserError(key, f"patch {patch} has values that are not finite")
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


def encode_parquet(sen1: np.ndarray, sen2: np.ndarray) -> bytes:
    """Patches as parquet: a row each, the arrays as flat lists of float64, the type of the model's signature."""
    columns = {}
    for key, images in (("sen1", sen1), ("sen2", sen2)):
        flat = np.ascontiguousarray(images, dtype=np.float64).reshape(len(images), int(np.prod(images.shape[1:])))
        offsets = np.arange(len(flat) + 1, dtype=np.int32) * flat.shape[1]
        columns[key] = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(flat.ravel()))
    out = io.BytesIO()
    # Pixels repeat too little for dictionaries and general compression to pay.
    pq.write_table(pa.table(columns), out, compression="none", use_dictionary=False, write_statistics=False)
    return out.getvalue()


def encode_json(sen1: np.ndarray, sen2: np.ndarray) -> bytes:
    """Patches as the JSON that MLflow's scoring protocol calls ``inputs``."""
    inputs = {"sen1": np.ascontiguousarray(sen1), "sen2": np.ascontiguousarray(sen2)}
    return orjson.dumps({"inputs": inputs}, option=orjson.OPT_SERIALIZE_NUMPY)


def _reason(error: urllib.error.HTTPError) -> Any:
    """What the server says in JSON, or the name of the status."""
    try:
        content = json.load(error)
        return content.get("error") or content["message"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, http.client.HTTPException):
        return error.reason
