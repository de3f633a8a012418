"""Why what a URL names can't be read, in a line that holds nothing secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from gemma_trace.printable import printable

WEB: Final = frozenset({"http", "https"})

_NO_CREDENTIALS: Final = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
    }
)
_DENIED: Final = frozenset({"PermissionError", "GatedRepoError"})
_NO_TRUST: Final = frozenset({"ClientSSLError", "SSLError", "SSLCertVerificationError"})
_NO_ANSWER: Final = frozenset({"TimeoutError", "FSTimeoutError", "ReadTimeoutError", "ConnectTimeoutError"})
_CUT: Final = frozenset(
    {
        "ClientPayloadError",
        "IncompleteRead",
        "ServerDisconnectedError",
        "ClientOSError",
        "ConnectionClosedError",
        "ConnectionError",
        "RemoteProtocolError",
        "ResponseStreamingError",
    }
)
_NO_CONNECTION: Final = frozenset(
    {"ClientConnectorError", "EndpointConnectionError", "ConnectionRefusedError", "gaierror", "ConnectError"}
)
_FORBIDDEN: Final = (401, 403)
_GONE: Final = (404, 410)


def shown_url(url: str) -> str:
    """A URL without what may be secret in it: a user's name and password, and what follows a `?`.

    >>> shown_url("https://ann:pw@host/run.json?X-Amz-Signature=5f")
    'https://host/run.json'
    """
    scheme, colon, rest = url.partition("://")
    rest = re.split(r"[?#]" if scheme.lower() in WEB else r"\?", rest, maxsplit=1)[0]
    if scheme != "hf":  # there it is a revision
        host, slash, path = rest.partition("/")
        rest = host.rpartition("@")[2] + slash + path
    return f"{scheme}{colon}{rest}"


def reason_of(error: Exception) -> str | None:
    """Why something can't be read, and what to do; None where it isn't there."""
    chain = list(_chain(error))
    names = {kind.__name__ for each in chain for kind in type(each).__mro__}
    status = next((number for each in chain if (number := _status(each))), 0)
    told: tuple[tuple[bool, str], ...] = (
        (bool(names & _NO_CREDENTIALS), "there are no credentials; set them up as its provider says"),
        (status in _FORBIDDEN, "access is denied; check the credentials in its provider's configuration"),
        (bool(names & _NO_TRUST), "its certificate can't be verified; check the address"),
        (bool(names & _NO_CONNECTION), "there is no connection to its server; check the address and the network"),
        (bool(names & _NO_ANSWER), "no answer came in time; try again"),
        (bool(names & _CUT), "the connection was cut; try again"),
    )
    for applies, reason in told:
        if applies:
            return reason
    if status in _GONE:
        return None
    if status >= 400:
        return f"the server answers {status}; check the URL"
    if "FileNotFoundError" in names:
        return None
    if names & _DENIED:
        return "access is denied; check the credentials in its provider's configuration"
    lines = str(error).strip().splitlines() or [""]
    text = re.sub(r"\S+://\S+", lambda number: shown_url(number[0]), lines[0])
    return f"{type(error).__name__}: {printable(text)[:200]}; check the URL"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _status(error: BaseException) -> int:
    """The code of HTTP that a server has answered with, as aiohttp and botocore keep it; 0 where there is none."""
    status = getattr(error, "status", None)
    if not isinstance(status, int):
        response = getattr(error, "response", None)
        meta = response.get("ResponseMetadata") if isinstance(response, dict) else None
        status = meta.get("HTTPStatusCode") if isinstance(meta, dict) else getattr(response, "status_code", 0)
    return status if isinstance(status, int) else 0
