"""A client of the scoring server: patches in, class probabilities out; it needs neither torch nor MLflow."""

from urllib.parse import urlsplit

import numpy as np
import requests
from jaxtyping import Float32
from numpy.typing import ArrayLike

from bp_lcz.addresses import is_local
from bp_lcz.bands import PATCH_SIDE
from bp_lcz.errors import UserError
from bp_lcz.patches.transform import first_not_finite
from bp_lcz.registry.connection import reason
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.serving.wire import NPY, decode_arrays, encode_arrays

BATCH = 256
"""Patches per request, 18 MiB with all channels: as many as `bp-lcz predict` takes at once, for the same last bits."""


class Client:
    """A scoring server.

    Args:
        url: of the server, as `bp-lcz serve` prints it. A loopback address is never asked for through a proxy.
        timeout: seconds to wait for an answer.

    Example: ``Client("http://127.0.0.1:5001").predict_proba(sen1, sen2)``
    """

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(url, "expected http://host:port")
        self._url = url.rstrip("/")
        self._uses_proxies = not is_local(parts.hostname)
        self._timeout = timeout

    def predict_proba(self, sen1: ArrayLike, sen2: ArrayLike) -> Float32[np.ndarray, "patch 17"]:
        """Class probabilities of raw patches, as `bp_lcz.model.checkpoint.Classifier.predict_proba` gives them.

        Args:
            sen1: (N, 32, 32, C1) as So2Sat stores it: an array, or what NumPy makes one of, of floating-point numbers.
                They are sent as float32, which is what the network sees of any type.
            sen2: (N, 32, 32, C2) likewise.

        Raises:
            UserError: if these are no such arrays, the numbers of patches differ, a value is not finite as float32,
                there is no answer or none of a scoring server, or it refuses; the text is its reason.
        """
        images = _patches("sen1", sen1), _patches("sen2", sen2)
        count = len(images[0])
        if count != len(images[1]):
            raise UserError("sen1", f"has {count} patches, sen2 {len(images[1])}")
        with self._session() as session:
            answers = [
                self._invoke(session, *(part[start : start + BATCH] for part in images))
                for start in range(0, count, BATCH)
            ]
        return np.concatenate([*answers, np.empty((0, CLASS_COUNT), np.float32)])

    def is_healthy(self) -> bool:
        """Whether the server answers."""
        with self._session() as session:
            try:
                return session.get(f"{self._url}/health", timeout=self._timeout).ok
            except (requests.RequestException, ValueError):
                return False

    def _session(self) -> requests.Session:
        """One for each call: a server closes a connection that is idle for seconds."""
        session = requests.Session()
        session.trust_env = self._uses_proxies
        return session

    def _invoke(self, session: requests.Session, sen1: np.ndarray, sen2: np.ndarray) -> Float32[np.ndarray, "patch 17"]:
        try:
            answer = session.post(
                f"{self._url}/invocations",
                encode_arrays(sen1, sen2),
                headers={"Content-Type": NPY},
                timeout=self._timeout,
                allow_redirects=False,
            )
        except (requests.RequestException, ValueError) as error:  # the second for a host that cannot be one
            raise UserError(self._url, f"no answer ({reason(error)})") from None
        if answer.status_code != 200:
            raise UserError(self._url, f"{answer.status_code}: {_refusal(answer)}")
        try:
            [predictions] = decode_arrays(answer.content, predictions=(CLASS_COUNT,))
        except UserError:
            raise UserError(self._url, "an answer without predictions; is this a scoring server?") from None
        if len(predictions) != len(sen1):
            raise UserError(self._url, f"{len(predictions)} predictions for {len(sen1)} patches")
        return predictions


def _patches(key: str, images: ArrayLike) -> Float32[np.ndarray, "patch 32 32 channel"]:
    """Patches as an array, checked here, where a patch has the caller's number."""
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
    return values.astype(np.float32, copy=False)


def _refusal(answer: requests.Response) -> str:
    """What the server says in JSON, or the name of the status."""
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.reason
