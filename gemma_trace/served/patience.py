"""How long a server is waited for: each thing that it is to say has its time, however slowly it says it.

A socket's own timeout is for each read of it. A server that sends a byte a second never lets it pass.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from functools import partial
from typing import Any, cast

from gemma_trace.errors import CaptureError


class LateError(CaptureError):
    """A server says something, but not what it is to say, in time."""


class Patience:
    """The time that a server has.

    Args:
        timeout_s: for each thing that it is to say.
        thing: what that is, of which it says none when it is late.
    """

    def __init__(self, timeout_s: float, thing: str = "whole answer") -> None:
        self.timeout_s = timeout_s
        self.renew(thing)

    def renew(self, thing: str) -> None:
        """It has said what it was to say, and has the time again for the next thing."""
        self._until, self._thing, self._heard = time.monotonic() + self.timeout_s, thing, False

    def check(self) -> float:
        """How long it has left, in seconds.

        Raises:
            LateError: nothing.
        """
        left_s = self._until - time.monotonic()
        if left_s > 0:
            return left_s
        what = f"sent no {self._thing}" if self._heard else "sent nothing"
        raise LateError(f"the server {what} for {self.timeout_s:g} s; see its log, or give --timeout")

    def read(self, source: io.RawIOBase, buffer: Any) -> int | None:
        """Read of a socket what comes in time; 0 at its end.

        Raises:
            LateError: nothing comes.
        """
        try:
            count = source.readinto(buffer)
        except TimeoutError:
            self._until = 0.0
            self.check()
            raise
        self._heard = True
        return count

    def on(self, connection: http.client.HTTPConnection) -> None:
        """Have a connection read its answers so."""
        connection.response_class = cast(Any, partial(_Response, patience=self))


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket.socket, source: io.RawIOBase, patience: Patience) -> None:
        self._sock, self._source, self._patience = sock, source, patience

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._patience.check())
        return self._patience.read(self._source, buffer)

    def close(self) -> None:
        self._source.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, patience: Patience, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp = io.BufferedReader(_Reader(sock, self.fp.detach(), patience))
