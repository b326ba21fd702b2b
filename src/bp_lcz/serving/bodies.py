"""Bodies straight from the socket to their place: the web server copies each byte five times, 256 KiB after 256 KiB."""

import asyncio
from typing import Any

import numpy as np
from h11._readers import ContentLengthReader
from uvicorn.protocols.http.h11_impl import H11Protocol

REST = "bp_lcz.rest"
"""Key in the scope of a request of what follows the parts of its body, which uvicorn's own way would copy once more."""
_PART = 64 * 2**10
"""Bytes that are read at once of heads and short bodies; what a longer body has left goes to its place."""


class _WholeBodies(H11Protocol, asyncio.BufferedProtocol):
    """uvicorn's protocol, but that a long body whose length is known, or what follows its parts, is put into the scope.

    h11 has no call for bytes that it need not see. Its `_reader` counts them, so its version is bound.
    """

    most = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._part = memoryview(bytearray(_PART))
        self._body: memoryview | None = None

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where the next bytes go."""
        if self._body is not None and self.cycle.response_complete:
            self._body = None  # answered before it was there: uvicorn drops the rest
        return self._part if self._body is None else self._body[-self._reader._remaining :]

    def buffer_updated(self, nbytes: int) -> None:
        """They are there."""
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
        """For a long body, before the application sees that some of it is there; memory is touched as it comes."""
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
    """Protocol for uvicorn that puts bodies of up to so many bytes into the scope; longer ones come in parts."""
    return type("WholeBodies", (_WholeBodies,), {"most": most})
