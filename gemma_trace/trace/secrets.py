"""What looks like an access token, a key or a password: where it stands in a text, never what it is.

Two things tell a secret: its form, as its issuer publishes it (`hf_…`, `sk-…`, a PEM header), or its name (`HF_TOKEN`,
`*_API_KEY`, `*PASSWORD*`, `*SECRET*`) before a value that is no placeholder. One regular expression finds where either
may begin; what is there is then decided in bounded time.
"""

from __future__ import annotations

import re
import string
from typing import Final, NamedTuple

from gemma_trace.trace.secret_names import BEARER, MAX_VALUE, is_placeholder, named_kind

_CAMEL_CASE: Final = re.compile(r"(?:[A-Z][a-z]+){2,}[0-9]{0,2}")
_HUB_LENGTH: Final = 34
"""What follows `hf_` in every token that was ever issued."""

_KEYWORDS: Final = (
    r"(?i:token|secret|pass(?:w|phrase|code)|pwd|credential|cookie|auth|"
    r"(?:api|access|private|signing|encryption|account|master|ssh|license|service|storage|client|openai|anthropic|wandb|"
    r"groq|mistral|cohere|gemini|azure)[ _-]?key)"
)

_PAIR: Final = r"\\{0,8}[\"']\s{0,8},\s{0,8}\\{0,8}[\"'](?i:value|val|default|contents?)\\{0,8}[\"']\s{0,8}:"
"""Between a name and what it names in `{"name": "HF_TOKEN", "value": "…"}`, behind the name."""
_PAIR_REVERSED: Final = (
    r"[\"'](?i:value|val|default|contents?)\\{0,8}[\"']\s{0,8}:\s{0,8}\\{0,8}[\"']"
    r"[^\s\"'\\]{1,256}\\{0,8}[\"']\s{0,8},\s{0,8}\\{0,8}[\"'](?i:name|key|variable|var|header)\\{0,8}[\"']\s{0,8}:"
    r"\s{0,8}\\{0,8}[\"'][\w.-]{0,64}"
)
_SEPARATOR: Final = r"[\w.-]{0,32}\\{0,8}[\"'`]?\s{0,8}(?:=>|:=|[:=])"

STARTS: Final = "|".join(
    (
        r"(?:hf|api_org|gh[pousr]|github_pat|npm|dckr_pat|gsk|r8|[srp]k_live|wandb_v[0-9]|dop_v1)_[A-Za-z0-9]{16}",
        r"github_pat_[A-Za-z0-9_]{16}",
        r"sk-[A-Za-z0-9_-]{16}",
        r"(?:glpat|gldt|glrt|glptt|glcbt|glsoat|glagent|nvapi|GOCSPX|xai|pplx|pypi|xox[a-z]|xapp)-[A-Za-z0-9_-]{8}",
        r"A[KS]IA[A-Z0-9]{16}",
        r"AIza[A-Za-z0-9_-]{20}",
        r"ya29\.[A-Za-z0-9_-]{8}",
        r"dapi[0-9a-f]{32}",
        r"SG\.[A-Za-z0-9_-]{16}",
        r"eyJ[A-Za-z0-9_-]{8}[A-Za-z0-9_-]{0,2048}\.eyJ",
        r"hooks\.slack\.com/services/[A-Za-z0-9]",
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY",
        r"(?i:bearer)[ +]{1,4}[A-Za-z_.~+/=-]{0,256}[0-9]",
        r"://[^\s/:@\"'<>\\]{0,256}:[^\s/@\"'<>\\]{1,256}@",
        r"machine\s{1,4}[^\s]{1,100}\s{1,4}login\s",
        rf"{_KEYWORDS}{_SEPARATOR}\s{{0,32}}[^\s:=]",
        rf"{_KEYWORDS}[\w.-]{{0,32}}{_PAIR}",
        rf"{_PAIR_REVERSED}{_KEYWORDS}",
        rf"--[\w-]{{0,32}}{_KEYWORDS}[\w-]{{0,16}}\\{{0,8}}[\"']?,?\s{{1,32}}\\{{0,8}}[\"']?[^\s-]",
    )
)
"""Where a secret may begin, in what `re` and RE2 both read: more than is one, so that it can be looked for at once."""

_FORMS: Final[tuple[tuple[str, str], ...]] = (
    ("Hugging Face token", r"(?<![A-Za-z0-9])(?:hf|api_org)_[A-Za-z0-9]{20,256}"),
    ("Anthropic key", r"(?<![A-Za-z0-9_-])sk-ant-[\w-]{16,512}"),
    ("OpenAI key", r"(?<![A-Za-z0-9_-])sk-(?:(?:proj|svcacct|admin|None|or-v1)-[\w-]{16,512}|[A-Za-z0-9]{20,256})"),
    ("GitHub token", r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{20,256}|github_pat_\w{20,256})"),
    ("GitLab token", r"(?<![A-Za-z0-9])gl(?:pat|dt|rt|ptt|cbt|soat|agent)-[\w-]{16,256}"),
    ("AWS access key", r"(?<![A-Za-z0-9+/])A[KS]IA[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ("Google key", r"(?<![A-Za-z0-9+/])(?:AIza[\w-]{30,80}|ya29\.[\w-]{20,1024}|GOCSPX-[\w-]{20,80})"),
    (
        "Slack token",
        r"(?<![A-Za-z0-9])(?:xox[a-z]-[\w-]{10,256}|xapp-[\w-]{10,256}|hooks\.slack\.com/services/[\w/]{20,256})",
    ),
    ("Weights & Biases key", r"(?<![A-Za-z0-9])wandb_v[0-9]_\w{20,256}"),
    ("NVIDIA NGC key", r"(?<![A-Za-z0-9])nvapi-[\w-]{20,256}"),
    ("JSON web token", r"(?<![A-Za-z0-9])eyJ[\w-]{8,2048}\.eyJ[\w-]{4,4096}(?:\.[\w-]{0,2048})?"),
    ("private key", r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"),
    (
        "access token",
        r"(?<![A-Za-z0-9])(?:(?:r8|gsk)_[A-Za-z0-9]{30,256}|npm_[A-Za-z0-9]{36}|pypi-AgE[\w-]{20,512}|"
        r"dckr_pat_[\w-]{20,256}|dapi[0-9a-f]{32}|dop_v1_[0-9a-f]{64}|[srp]k_live_[A-Za-z0-9]{16,256}|"
        r"SG\.[\w-]{16,64}\.[\w-]{16,128}|(?:xai|pplx)-[A-Za-z0-9]{40,256})",
    ),
    (BEARER, r"(?i:(?<![a-z])bearer)[ +]{1,4}(?P<bearer>[\w.~+/=-]{8,4096})"),
    (
        "password in an address",
        r"://[^\s/:@\"'<>\\]{0,256}:(?P<in_url>[^\s/@\"'<>\\]{1,256})@",
    ),
    ("password", r"machine\s{1,4}\S{1,100}\s{1,4}login\s{1,4}\S{1,100}\s{1,4}password\s{1,4}(?P<netrc>\S{1,256})"),
)
"""Kinds and their forms; the group is the secret where that isn't all of it."""

_START: Final = re.compile(STARTS, re.ASCII)
_FORM: Final = re.compile("|".join(f"(?P<form{place}>{form})" for place, (_, form) in enumerate(_FORMS)), re.ASCII)
_KEYWORD: Final = re.compile(_KEYWORDS, re.ASCII)
_INNER: Final = ("bearer", "in_url", "netrc")
_NAME_CHARACTERS: Final = string.ascii_letters + string.digits + "_.-"
_NAME_AFTER: Final = re.compile(r"[\w.-]{0,64}", re.ASCII)
_ASSIGNED: Final = re.compile(
    r"\\{0,8}[\"'`]?\s{0,8}(?:=>|:=|[:=])(?![:=])\s{0,64}(?P<nested>(?:[\[{(]\s{0,64}){0,4})"
    r"(?:[bru]{1,2}(?=[\"']))?(?P<quote>\\{0,8}[\"'])?",
    re.ASCII,
)
_PAIRED: Final = re.compile(rf"{_PAIR}\s{{0,8}}(?P<nested>)(?P<quote>\\{{0,8}}[\"'])?", re.ASCII)
_NAMED_BEHIND: Final = re.compile(
    r"[\"'][A-Za-z]{3,8}\\{0,8}[\"']\s{0,8}:\s{0,8}\\{0,8}[\"'](?P<value>[^\s\"'\\]{1,256})\\{0,8}[\"']\s{0,8},"
    r"\s{0,8}\\{0,8}[\"'][A-Za-z]{3,8}\\{0,8}[\"']\s{0,8}:\s{0,8}\\{0,8}[\"'](?P<name>[\w.-]{1,128})",
    re.ASCII,
)
_AFTER_FLAG: Final = re.compile(r"\\{0,8}[\"']?,?\s{1,32}(?P<nested>)(?P<quote>\\{0,8}[\"'])?(?!-)", re.ASCII)
_SCHEME: Final = re.compile(r"(?:bearer|basic|token|digest|apikey|negotiate)[ +]{1,4}", re.IGNORECASE)
_UNQUOTED: Final = re.compile(r"[^\s\"'&]{0,4096}")
_END_OF_KEY: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_ENDS: Final = re.compile(r"\\{0,8}[\"']\s{0,8}:", re.ASCII)
_ESCAPE: Final = re.compile(
    r"(?<!\\)\\++(?:u00(?P<code>[0-7][0-9A-Fa-f])|(?P<space>[nrtbf])|(?P<itself>[\"/]))", re.ASCII
)


class Secret(NamedTuple):
    """Where something stands that looks like a secret.

    Attributes:
        start, end: of the secret itself, without what names it.
        kind: e.g. "Hugging Face token".
    """

    start: int
    end: int
    kind: str


def find_secrets(text: str) -> list[Secret]:
    """What in a text looks like a secret, by start; none overlaps another.

    >>> [(secret.kind, secret.start) for secret in find_secrets("run DB_PASSWORD=hunter2 WANDB_API_KEY=None")]
    [('password', 16)]
    """
    return secrets_within(text, 0, len(text))


def secrets_within(text: str, start: int, end: int) -> list[Secret]:
    """What begins in a part of a text, as `find_secrets` has it; what is around the part is looked at too."""
    secrets: list[Secret] = []
    while start < end and (match := _START.search(text, start, min(len(text), end + MAX_VALUE))):
        if match.start() >= end:
            break
        secret = _secret_at(text, match)
        if secret is not None and secret.start >= (secrets[-1].end if secrets else 0):
            secrets.append(secret)
        start = max(match.start() + 1, secret.end if secret else 0)
    return secrets


def readable(text: str) -> str:
    """JSON text, or JSON in it, with its escapes of ASCII characters undone: what a token looks like to its reader.

    >>> readable(r'hf\\u005fabc\\n\\"x\\"')
    'hf_abc "x"'
    """
    return _ESCAPE.sub(_plain, text) if "\\" in text else text


def _plain(match: re.Match[str]) -> str:
    if match["code"]:
        return chr(int(match["code"], 16))
    return " " if match["space"] else match["itself"]


def _secret_at(text: str, start: re.Match[str]) -> Secret | None:
    """The secret that begins, or whose name does, where one may."""
    form = _FORM.match(text, start.start())
    if form and (secret := _formed(text, form)):
        return secret
    if behind := _NAMED_BEHIND.match(text, start.start()):
        kind = named_kind(behind["name"], behind["value"], quoted=True)
        return Secret(*behind.span("value"), kind) if kind else None
    keyword = _KEYWORD.search(text, start.start(), start.end())
    return _named(text, keyword) if keyword else None


def _formed(text: str, match: re.Match[str]) -> Secret | None:
    kind = next(kind for place, (kind, _) in enumerate(_FORMS) if match[f"form{place}"] is not None)
    group = next((name for name in _INNER if match[name] is not None), None)
    start, end = match.span(group or 0)
    value = text[start:end]
    if kind == "private key":
        closing = _END_OF_KEY.search(text, end, end + 4 * MAX_VALUE)
        return Secret(start, closing.end() if closing else min(len(text), end + MAX_VALUE), kind)
    if is_placeholder(value):
        return None
    if kind == "Hugging Face token" and _is_class_name(value.rpartition("_")[2]):
        return None
    if kind == BEARER and not re.search(r"\d", value):
        return None  # a word; as a header's value it is found by the header's name
    return Secret(start, end, kind)


def _is_class_name(name: str) -> bool:
    """Whether it reads like BertForSequenceClassification: words of five letters in the mean."""
    capitals = sum(map(str.isupper, name))
    return len(name) != _HUB_LENGTH and _CAMEL_CASE.fullmatch(name) is not None and len(name) >= 5 * capitals


def _named(text: str, keyword: re.Match[str]) -> Secret | None:
    before = text[max(0, keyword.start() - 64) : keyword.start()]
    after = _NAME_AFTER.match(text, keyword.end())
    head, tail = before[len(before.rstrip(_NAME_CHARACTERS)) :], after[0] if after else ""
    name, place = head + keyword[0] + tail, keyword.end() + len(tail)
    assigned = _ASSIGNED.match(text, place) or _PAIRED.match(text, place)
    if assigned is None and name.startswith("--"):
        assigned = _AFTER_FLAG.match(text, place)
    if assigned is None:
        return None
    start, quote = assigned.end(), assigned["quote"]
    scheme = _SCHEME.match(text, start) if "auth" in name.lower() else None
    start = scheme.end() if scheme else start
    end = _end_of_value(text, start, quote)
    value = text[start:end]
    if assigned["nested"] and _KEY_ENDS.match(text, end) and not name.lower().endswith("s"):
        return None  # an object of that name, not of several of them
    kind = named_kind(name, value, quoted=bool(quote), nested=bool(assigned["nested"]), scheme=scheme is not None)
    if kind is None:
        return None
    form = _FORM.match(value)
    known = _formed(value, form) if form else None
    return Secret(start, end, known.kind if known else kind)


def _end_of_value(text: str, start: int, quote: str | None) -> int:
    if quote:
        end = text.find(quote, start, start + MAX_VALUE)
        if end >= 0:
            return end
    match = _UNQUOTED.match(text, start, min(len(text), start + MAX_VALUE))
    value = match[0] if match else ""
    return start + len(value.rstrip(",;)}]\\"))
