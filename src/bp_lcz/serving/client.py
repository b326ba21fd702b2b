"""A client of the scoring server: patches in, class probabilities out. It needs neither torch nor MLflow."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import urllib3
from jaxtyping import Float32
from numpy.typing import ArrayLike
from requests import RequestException
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, prepend_scheme_if_needed, select_proxy

from bp_lcz.addresses import is_local
from bp_lcz.bands import PATCH_SIDE
from bp_lcz.errors import UserError
from bp_lcz.patches.transform import first_not_finite
from bp_lcz.registry.connection import reason
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.serving.wire import NPY, decode_arrays, npy_parts

BATCH = 256
"""Patches per request, 18 MiB with all channels. `bp-lcz predict` uses the same size, so results have equal bits."""


class Client:
    """A scoring server.

    Each call opens its own connection. Calls in a ``with`` statement share one, which saves a millisecond or two.

    Args:
        url: URL of the server, as `bp-lcz serve` prints it. Loopback addresses never use a proxy.
        timeout: seconds to wait for an answer.

    Example: ``Client("http://127.0.0.1:5001").predict_proba(sen1, sen2)``
    """

    _kept: urllib3.PoolManager | None = None

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(url, "expected http://host:port")
        self._url = url.rstrip("/")
        self._is_local = is_local(parts.hostname)
        self._timeout = timeout

    def __enter__(self) -> "Client":
        """Keep one connection for all calls in the block."""
        self._kept = self._connections()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        if self._kept:
            self._kept.clear()
        self._kept = None

    def predict_proba(self, sen1: ArrayLike, sen2: ArrayLike) -> Float32[np.ndarray, "patch 17"]:
        """Class probabilities of raw patches, as `bp_lcz.model.checkpoint.Classifier.predict_proba` gives them.

        Args:
            sen1: (N, 32, 32, C1) floating-point numbers as So2Sat stores them, in any form that NumPy takes.
                They are sent as float32, the type that the network computes with.
            sen2: (N, 32, 32, C2), in the same form.

        Raises:
            UserError: if these are not such arrays, the numbers of patches differ, a value is not finite as float32, no
                scoring server answers, or it refuses. The text is then its reason.
        """
        images = _patches("sen1", sen1), _patches("sen2", sen2)
        count = len(images[0])
        if count != len(images[1]):
            raise UserError("sen1", f"has {count} patches, but sen2 has {len(images[1])}")
        try:
            with self._connected() as connections:
                answers = [
                    self._invoke(connections, *(part[start : start + BATCH] for part in images))
                    for start in range(0, count, BATCH)
                ]
        except UserError:
            # A patch has the caller's number, which the server does not know.
            for key, part in zip(("sen1", "sen2"), images, strict=True):
                if (patch := first_not_finite(part)) is not None:
                    raise UserError(key, f"patch {patch} has values that are not finite") from None
            raise
        return np.concatenate([*answers, np.empty((0, CLASS_COUNT), np.float32)])

    def is_healthy(self) -> bool:
        """Whether the server answers."""
        try:
            with self._connected() as connections:
                return self._request(connections, "GET", "health").status == 200
        except UserError:
            return False

    @contextmanager
    def _connected(self) -> Iterator[urllib3.PoolManager]:
        if self._kept:
            yield self._kept
        else:
            with self._connections() as connections:
                yield connections

    def _connections(self) -> urllib3.PoolManager:
        """Connections through the proxy that `requests` would use. `requests` itself would cost a millisecond more."""
        proxy = None if self._is_local else select_proxy(self._url, get_environ_proxies(self._url))
        try:
            return (
                HTTPAdapter().proxy_manager_for(prepend_scheme_if_needed(proxy, "http"))
                if proxy
                else urllib3.PoolManager()
            )
        except (RequestException, ValueError) as error:
            raise self._unanswered(error) from None

    def _unanswered(self, error: Exception) -> UserError:
        return UserError(self._url, f"no answer ({reason(error)})")

    def _request(
        self, connections: urllib3.PoolManager, method: str, path: str, **content: Any
    ) -> urllib3.BaseHTTPResponse:
        try:
            return connections.request(
                method, f"{self._url}/{path}", timeout=self._timeout, retries=False, redirect=False, **content
            )
        except (urllib3.exceptions.HTTPError, ValueError) as error:  # the second for an invalid host name
            raise self._unanswered(error) from None

    def _invoke(
        self, connections: urllib3.PoolManager, sen1: np.ndarray, sen2: np.ndarray
    ) -> Float32[np.ndarray, "patch 17"]:
        body = npy_parts(sen1, sen2)
        headers = {"Content-Type": NPY, "Content-Length": str(sum(part.nbytes for part in body))}
        answer = self._request(connections, "POST", "invocations", body=body, headers=headers)
        if answer.status != 200:
            raise UserError(self._url, f"{answer.status}: {_refusal(answer)}")
        try:
            [predictions] = decode_arrays(answer.data, predictions=(CLASS_COUNT,))
        except UserError:
            raise UserError(self._url, "it answers without predictions; is this a scoring server?") from None
        if len(predictions) != len(sen1):
            raise UserError(self._url, f"{len(predictions)} predictions for {len(sen1)} patches")
        return predictions


def _patches(key: str, images: ArrayLike) -> Float32[np.ndarray, "patch 32 32 channel"]:
    """Patches as an array. The server checks their values."""
    try:
        values = np.asarray(images)
    except (ValueError, TypeError):
        raise UserError(key, "not a rectangular array") from None
    if values.ndim != 4 or values.shape[1:3] != (PATCH_SIDE, PATCH_SIDE):
        raise UserError(key, f"shape {values.shape}; expected (N, {PATCH_SIDE}, {PATCH_SIDE}, channels)")
    if values.dtype.kind != "f":
        raise UserError(key, f"holds {values.dtype}; expected floating-point numbers")
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def _refusal(answer: urllib3.BaseHTTPResponse) -> str:
    """The server's reason from its JSON, or the name of the status."""
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return str(answer.reason)
