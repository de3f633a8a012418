"""What looks like an access token, a key or a password: where it stands in text, never what it is.

The forms are those that the issuers publish, as the secret scanners of GitHub and GitLab list them; and any value of
16 bytes or more that is named a token, a secret or a key, or of 6 that is named a password.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from gemma_trace.trace.source import SourceState, read_chunks

OVERLAP_BYTES: Final = 4096
"""So much of a chunk is looked at again with the next one; no secret that is looked for is longer."""


class Secret(NamedTuple):
    """Where something stands that looks like a secret.

    Attributes:
        start, end: of the secret itself, without what names it.
        kind: e.g. "Hugging Face token".
    """

    start: int
    end: int
    kind: str


class _Form(NamedTuple):
    """A kind of secret: every one holds a literal, which is looked for first; the group `secret` is the secret.

    Attributes:
        reach: how far before its literal one may begin.
    """

    kind: str
    literals: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    reach: int

    def matches(self, text: bytes) -> Iterator[re.Match[bytes]]:
        """All that match, by literal and start."""
        for literal in self.literals:
            place = text.find(literal)
            while place >= 0:
                found = self.pattern.search(text, max(0, place - self.reach), place + OVERLAP_BYTES)
                if found and found.start() <= place:
                    yield found
                place = text.find(literal, max(place + 1, found.end() if found and found.start() <= place else 0))


def _form(kind: str, literals: tuple[bytes, ...], pattern: bytes, reach: int = 0) -> _Form:
    return _Form(kind, literals, re.compile(pattern), reach)


_BEFORE: Final = rb"(?<![A-Za-z0-9_])"

_FORMS: Final = (
    _form("Hugging Face token", (b"hf_", b"api_org_"), _BEFORE + rb"(?P<secret>(?:hf|api_org)_[A-Za-z0-9]{16,})"),
    _form(
        "OpenAI or Anthropic key",
        (b"sk-",),
        rb"(?<![A-Za-z0-9_-])(?P<secret>sk-(?=[A-Za-z0-9_-]*[0-9])(?=[A-Za-z0-9_-]*[A-Z])[A-Za-z0-9_-]{20,255})",
    ),
    _form(
        "GitHub token",
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
        _BEFORE + rb"(?P<secret>gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{22,})",
    ),
    _form("GitLab token", (b"glpat-",), _BEFORE + rb"(?P<secret>glpat-[A-Za-z0-9_-]{16,})"),
    _form("AWS key", (b"AKIA", b"ASIA"), rb"(?<![A-Za-z0-9])(?P<secret>(?:AKIA|ASIA)[A-Z0-9]{16})(?![A-Za-z0-9])"),
    _form("Google key", (b"AIza",), _BEFORE + rb"(?P<secret>AIza[A-Za-z0-9_-]{30,})"),
    _form("Slack token", (b"xox",), _BEFORE + rb"(?P<secret>xox[abeoprs]-[A-Za-z0-9-]{10,})"),
    _form("NVIDIA key", (b"nvapi-",), _BEFORE + rb"(?P<secret>nvapi-[A-Za-z0-9_-]{16,})"),
    _form(
        "JSON web token",
        (b"eyJ",),
        _BEFORE + rb"(?P<secret>eyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{8,})",
    ),
    _form("private key", (b"-----BEGIN",), rb"(?P<secret>-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^\"]{0,4000})"),
    _form(
        "authorization header",
        (b"earer ", b"asic "),
        rb"\b(?:[Bb]earer|[Bb]asic) +(?P<secret>(?=[A-Za-z0-9._~+/=-]*[0-9])[A-Za-z0-9._~+/-]{16,}=*)",
        reach=1,
    ),
    _form(
        "password in an address",
        (b"://", b":\\/\\/"),
        rb"\b[A-Za-z][A-Za-z0-9+.-]{1,20}:(?:\\?/){2}[^\s\"/:@\\]{0,80}:(?P<secret>[^\s\"/@\\]{3,200})@",
        reach=21,
    ),
)

_ASSIGNED: Final = rb"[\\\"']{0,8}\s{0,4}[:=]\s{0,4}[\\\"']{0,8}"
_VALUE: Final = rb"[^\s\"'\\,;&(){}\[\]]"

_NAMED: Final = (
    _form(
        "access token or key",
        (b"TOKEN", b"SECRET", b"KEY", b"CREDENTIAL"),
        rb"(?:TOKEN|SECRET(?:_KEY)?|API_?KEY|ACCESS_KEY(?:_ID)?|PRIVATE_KEY|AUTH_KEY|CREDENTIALS?)"
        + _ASSIGNED
        + rb"(?P<secret>"
        + _VALUE
        + rb"{16,512})",
        reach=20,
    ),
    _form(
        "access token or key",
        (b"oken", b"ecret", b"key", b"Key"),
        rb"(?<![A-Za-z0-9])(?:(?:access|auth|hf|api|bearer|refresh|github|gitlab|session|hub|user|wandb)[_-]?token|"
        rb"[Ss]ecret|(?:api|access|secret|private|auth)[_-]?key|apiKey|accessToken|authToken)(?![A-Za-z0-9])"
        + _ASSIGNED
        + rb"(?P<secret>"
        + _VALUE
        + rb"{16,512})",
        reach=20,
    ),
    _form(
        "password",
        (b"assw", b"ASSW", b"_PWD", b"passphrase"),
        rb"(?:[Pp]assword|[Pp]asswd|passphrase|PASSWORD|PASSWD|_PWD)"
        + _ASSIGNED
        + rb"(?P<secret>"
        + _VALUE
        + rb"{6,512})",
        reach=8,
    ),
)

_NO_SECRET_NAME: Final = re.compile(
    rb"(?:PAD|EOS|BOS|UNK|SEP|CLS|MASK|IMAGE|VIDEO|AUDIO|BOI|EOI|NEW|MAX|MIN|NUM|PER|NEXT|FIRST|LAST|STOP|START|"
    rb"END|OLD)_?$"
)
"""What stands before TOKEN in the names of a tokenizer's tokens, and of their numbers."""

_PLACEHOLDER: Final = re.compile(
    rb"(?:(?P<one>.)(?P=one)*|<.*|\$.*|%.*|\{.*|\*.*|(?:none|null|nil|true|false|undefined|unset|empty|redacted|removed|"
    rb"hidden|masked|blank(?:ed)?|dummy|placeholder|change-?me|your[-_ ].*|example.*|test|xxx+.*)\W*|[0-9.,:_-]+|"
    rb".*x{6,}.*|.*\*{3,}.*|(?:[a-z]+[_.-])*[a-z]+(?:_[a-z]+)+)",
    re.IGNORECASE | re.DOTALL,
)
"""Values that stand for a secret, and plain words with underscores, as identifiers are."""

_ESCAPED: Final = re.compile(rb"\\u00([2-7][0-9A-Fa-f])")


def find_secrets(text: bytes) -> list[Secret]:
    """What in a text looks like a secret, by start; of what overlaps, the most specific."""
    found: list[Secret] = []
    for form in (*_FORMS, *_NAMED):
        for match in form.matches(text):
            start, end = match.span("secret")
            if _is_secret(form, match) and not any(start < other.end and other.start < end for other in found):
                found.append(Secret(start, end, form.kind))
    return sorted(found)


def _is_secret(form: _Form, match: re.Match[bytes]) -> bool:
    secret = match["secret"]
    if form in _NAMED:
        if _NO_SECRET_NAME.search(match.string[max(0, match.start() - 8) : match.start()]):
            return False
        if form.kind != "password" and not re.search(rb"[0-9]", secret):
            return False
    body = secret.partition(b"_" if b"_" in secret[:12] else b"-")[2] or secret
    return not (_PLACEHOLDER.fullmatch(body) or _PLACEHOLDER.fullmatch(secret)) and len(set(body)) > 3


def scan_secrets(path: Path, on_bytes: Callable[[int], None] | None = None) -> Counter[str]:
    """How many secrets a file's text seems to hold, by kind. Nothing of them is kept.

    Args:
        on_bytes: hears how many bytes of the file were read, each time some are.

    Raises:
        InputError: the file can't be read.
    """
    counts: Counter[str] = Counter()
    for text, until in _windows(read_chunks(path, SourceState(on_bytes))):
        counts.update(secret.kind for secret in find_secrets(text) if secret.start < until)
    return counts


def _windows(chunks: Iterator[bytes]) -> Iterator[tuple[bytes, int]]:
    """Texts that overlap, and up to where what begins in each is new."""
    pending = b""
    for chunk in chunks:
        pending += chunk
        if len(pending) > 4 * OVERLAP_BYTES:
            text = unescaped(pending)
            until = max(0, len(text) - OVERLAP_BYTES)
            yield text, until
            pending = text[until:]
    text = unescaped(pending)
    yield text, len(text)


def unescaped(text: bytes) -> bytes:
    """JSON text with the characters of ASCII that it escapes by number written out."""
    if b"\\u00" not in text:
        return text
    return _ESCAPED.sub(
        lambda found: b"'" if found[1] in (b"22", b"5c", b"5C") else bytes.fromhex(found[1].decode()), text
    )
