"""A server's address, taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from gemma_trace.errors import ConfigError

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    """Where a server is.

    Attributes:
        secure: whether it speaks TLS.
        host: a name or a number, without the brackets of IPv6.
        path: what stands before `/v1`; "" for nothing.
    """

    secure: bool
    host: str
    port: int
    path: str


def address_of(url: str) -> Address:
    """Take a URL apart; without a scheme it is http, and `/v1` or `/v1/chat/completions` at its end is left out.

    Raises:
        ConfigError: it is none of a server's.
    """
    refused = ConfigError("--server is not the address of a server; give e.g. --server http://127.0.0.1:8000")
    url = url.strip()
    if not url.isprintable() or " " in url:
        raise refused
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        host, port = unquote(parts.hostname or ""), parts.port
        host.encode("idna")
        parts.path.encode("ascii")
    except ValueError:  # of which that it can't be encoded is one
        raise refused from None
    extra = parts.query or parts.fragment or parts.username is not None
    if parts.scheme not in _PORTS or not host.isprintable() or not host or extra or port == 0:
        raise refused
    path = parts.path.rstrip("/").removesuffix("/chat/completions").removesuffix("/v1")
    return Address(parts.scheme == "https", host, port or _PORTS[parts.scheme], path)
