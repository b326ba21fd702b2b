"""Reads bodies of requests from the socket into one buffer. Without it the web server copies each byte five times."""

import asyncio
from typing import Any

import numpy as np
from h11._readers import ContentLengthReader
from uvicorn.protocols.http.h11_impl import H11Protocol

REST = "bp_lcz.rest"
"""Key in a request's scope for the rest of its body, which does not pass through uvicorn and so is not copied again."""
_PART = 64 * 2**10
"""Bytes that are read at once of heads and short bodies. The rest of a longer body goes into its own buffer."""


class _WholeBodies(H11Protocol, asyncio.BufferedProtocol):
    """uvicorn's protocol, except that the rest of a long body of known length is put into the scope.

    h11 has no function to skip bytes. So its private `_reader` is told their number, and its version is bounded.
    """

    most = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._part = memoryview(bytearray(_PART))
        self._body: memoryview | None = None

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Buffer for the next bytes."""
        if self._body is not None and self.cycle.response_complete:
            self._body = None  # already answered: uvicorn drops the rest
        return self._part if self._body is None else self._body[-self._reader._remaining :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take in bytes that arrived in the buffer."""
        if self._body is None:
            self.data_received(bytes(self._part[:nbytes]))
            self._make_room()
            return
        self._reader._remaining -= nbytes
        if not self._reader._remaining:
            scope: Any = self.cycle.scope
            scope[REST], self._body = self._body, None
            self.handle_events()

    @property
    def _reader(self) -> Any:
        return self.conn._reader

    def _make_room(self) -> None:
        """Make a buffer for a long body before the application sees its first part. It fills as bytes arrive."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not isinstance(self._reader, ContentLengthReader):
            return
        length = len(cycle.body) + self._reader._remaining
        if self._reader._remaining > _PART and length <= self.most:
            self._body = np.empty(length, np.uint8).data
            self._body[: len(cycle.body)] = cycle.body
            cycle.body = bytearray()
            cycle.message_event.clear()


def whole_bodies(most: int) -> type[asyncio.Protocol]:
    """Protocol for uvicorn that puts bodies of at most this many bytes into the scope. Longer ones come in parts."""
    return type("WholeBodies", (_WholeBodies,), {"most": most})
