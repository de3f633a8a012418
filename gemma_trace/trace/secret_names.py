"""Which names say that what they name is a secret, and which values are none."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Final

MAX_VALUE: Final = 4096
"""No secret that is looked for is longer, but for a key in a PEM block."""

BEARER: Final = "bearer token"
TOKEN: Final = "access token"
KEY: Final = "API key"
PASSWORD: Final = "password"
SECRET: Final = "secret"
CREDENTIALS: Final = "credentials"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_ISSUERS: Final[tuple[tuple[str, frozenset[str], str], ...]] = (
    ("hugging", frozenset({"hf", "hub"}), "Hugging Face token"),
    ("anthropic", frozenset({"claude"}), "Anthropic key"),
    ("openai", frozenset(), "OpenAI key"),
    ("github", frozenset({"gh"}), "GitHub token"),
    ("gitlab", frozenset({"gl"}), "GitLab token"),
    ("wandb", frozenset(), "Weights & Biases key"),
    ("slack", frozenset(), "Slack token"),
    ("nvidia", frozenset({"ngc"}), "NVIDIA NGC key"),
    ("google", frozenset({"gcp", "gemini"}), "Google key"),
    ("aws", frozenset(), "AWS secret key"),
)
"""A part of a name, or words of it, and the kind of secret that it then names."""

_ABOUT: Final = _words(
    "length len policy file path dir folder name type count num manager provider prompt required enabled disabled min "
    "max expiry expires ttl url uri arn version scope scopes field hint mount ref store handler"
)
"""Last words of names that speak about a secret and don't hold it: PASSWORD_FILE, secret_name."""

_NO_CREDENTIAL: Final = _words(
    "pad eos bos unk sep cls mask image video audio special stop start end first last next prev per max min new num n "
    "boi eoi eoa boa eot eom im begin prompt output input sampled generated draft bonus target think thinking vision "
    "soft placeholder word sub forced additional decoder encoder extra model tool speaker time chunk text padding fake "
    "control control_ separator tokenizer top best total cost ms"
)
"""What stands before "token" in the names of a tokenizer's tokens, and of their numbers."""

_CREDENTIAL: Final = _words(
    "auth access api hf hub hugging face huggingface github gitlab gh gl bearer refresh session id oauth personal "
    "private security service bot slack wandb jwt csrf xsrf admin login deploy ci job npm pypi docker registry azure "
    "aws gcp google user client identity web sas vault openai anthropic ngc nvidia replicate kaggle comet neptune "
    "mlflow ray"
)
"""What stands before "token" in the names of credentials, in whichever case."""

_KEYS: Final = _words(
    "api access private secret signing encryption account auth ssh master license service storage client openai "
    "anthropic wandb groq mistral cohere gemini azure"
)
"""What stands before "key" in the names of secrets."""

_NO_VALUE: Final = re.compile(
    r"(?P<one>[xX*._#?•…\- ])(?P=one)*|[xX*._#?•…\-]+|[\"'\\\[\](){},;:|\s]*|"
    r"<.*|\$[A-Z_][A-Z0-9_]*|\$\{.*|\$\(.*|%\w+%?|\{\{.*|\{\w*\}|\[[A-Za-z _-]*\]?|"
    r".*\*{3,}.*|.*\.{3,}.*|.*….*|.*[xX]{6,}.*|"
    r"[A-Za-z]{1,8}[_-][xX.*]{2,}|"
    r"(?:none|null|nil|true|false|undefined|unset|empty|n/?a|todo|tbd|redacted|removed|hidden|masked|omitted|stripped|"
    r"blank(?:ed)?|scrubbed|anonymi[sz]ed|change-?_?me|placeholder|dummy|not[ _-]?set|unknown|your[-_ ].*|example|"
    r"str|string|int|bool|bytes|float|object|any|optional\b.*|union\b.*|typing\..*)[.,;)\]}]*",
    re.IGNORECASE | re.DOTALL,
)
_CODE: Final = re.compile(
    r"[A-Za-z_][\w.]*[\[(].*|(?:self|args|cls|os|config|cfg|kwargs|settings|environ)\.\w.*", re.DOTALL
)
_PATH: Final = re.compile(r"(?:~|[A-Za-z]:|\.{0,2})(?:[/\\]+[\w.@+ -]+){2,}[/\\]*|~/.*")
_VERSION: Final = re.compile(r"v?\d++(?:\.\d++)++[\w.+=-]*")
_NUMBER: Final = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?")
_RANDOM: Final = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w.~+=-]{16,}(?:/[\w.~+=/-]*)?", re.ASCII)
_WORDY: Final = re.compile(r"(?:[A-Za-z]+|\d{1,6})(?:[_.\-/](?:[A-Za-z]+\d{0,2}|\d{1,6}))+")


def is_placeholder(value: str) -> bool:
    """Whether a value only stands for a secret, or is a switch.

    >>> [is_placeholder(value) for value in ("xxxx", "<redacted>", "None", "$HF_TOKEN", "hunter2")]
    [True, True, True, True, False]
    """
    return not value.strip() or _NO_VALUE.fullmatch(value.strip()) is not None


@lru_cache(maxsize=4096)  # what a trace names again and again is no secret
def named_kind(name: str, value: str, *, quoted: bool, nested: bool = False, scheme: bool = False) -> str | None:
    """What kind of secret a value is by its name; None where it is none.

    Args:
        quoted: it stands in quotes, or is the text of a JSON member.
        nested: it is inside an object or a list of that name.
        scheme: it follows "Bearer", "Basic" or the like.

    >>> named_kind("HF_TOKEN", "abc123", quoted=False), named_kind("pad_token", "abc123", quoted=False)
    ('Hugging Face token', None)
    """
    value = value.strip()
    if is_placeholder(value) or (not quoted and _CODE.fullmatch(value)) or _VERSION.fullmatch(value):
        return None
    words = [word.lower() for word in _WORDS.findall(name)]
    while words and words[-1].isdigit():
        words.pop()
    if not words or words[-1] in _ABOUT:
        return None
    joined = "".join(words)
    kind = _strong(words, joined, value)
    if kind is None and not nested:
        kind = _weaker(name, words, joined, value, scheme=scheme)
    if kind is None or kind == PASSWORD:
        return kind
    return next((told for part, alone, told in _ISSUERS if part in joined or alone & set(words)), kind)


def names_secrets(name: str) -> bool:
    """Whether all that an object or a list of this name holds is secret: `secrets`, `passwords`, `credentials`."""
    return named_kind(name, "a value like another", quoted=True, nested=True) is not None


def _strong(words: list[str], joined: str, value: str) -> str | None:
    """Names that leave no doubt: any value is a secret, but a switch and a path."""
    if _PATH.fullmatch(value):
        return None
    if any(part in joined for part in ("password", "passwd", "passphrase", "passcode")):
        return PASSWORD
    if words[-1] == "pwd" and len(words) > 1 and not {"old", "init", "orig"} & set(words):
        return PASSWORD
    if _NUMBER.fullmatch(value) and len(value) < (4 if words[-1] in ("secret", "secrets") else 6):
        return None
    if "secret" in joined and "secretary" not in joined:
        return SECRET
    return CREDENTIALS if joined in ("credential", "credentials") else None


def _weaker(name: str, words: list[str], joined: str, value: str, *, scheme: bool) -> str | None:
    """Names that others have as well: the value has to look like a secret, the more so the less the name says."""
    if _PATH.fullmatch(value) or (_NUMBER.fullmatch(value) and len(value) < 20):
        return None
    if joined.endswith("authorization"):
        return BEARER if scheme else CREDENTIALS if _looks_random(value) else None
    if "token" in words or joined.endswith(("token", "tokens")):
        return _token(name, words, joined, value)
    pairs = set(pairwise(words))
    if any(second in ("key", "keys") and first in _KEYS for first, second in pairs) or joined.endswith("apikey"):
        certain = joined.endswith(("apikey", "apikeys", "privatekey"))
        return KEY if len(value) >= (3 if certain else 8) and not _is_special(value) else None
    if any(part in joined for part in ("credential", "cookie")) or words[-1] == "auth":
        return CREDENTIALS if _looks_random(value) else None
    return None


def _token(name: str, words: list[str], joined: str, value: str) -> str | None:
    place = words.index("token") if "token" in words else len(words) - 1
    qualifiers = set(words[:place])
    plural = words[-1] == "tokens"
    if (qualifiers & _NO_CREDENTIAL and not qualifiers & {"auth", "access", "hf", "api"}) or _is_special(value):
        return None
    told = bool(qualifiers & _CREDENTIAL) or joined.endswith(("accesstoken", "authtoken", "apitoken", "hftoken"))
    if told and words[-1] not in ("ids", "type", "types", "count", "counts", "id"):
        return TOKEN if len(value) >= 3 else None
    if plural or (words[-1] != "token" and place != len(words) - 1 and not name.isupper()):
        return None
    if name.isupper() and qualifiers and words[-1] == "token":
        return TOKEN if len(value) >= 6 else None
    return TOKEN if words[-1] == "token" and _looks_random(value) else None


def _is_special(value: str) -> bool:
    """Whether it is how a tokenizer writes a token of its own, or a text of several words."""
    return value.startswith(("<", "[", "▁", "Ġ")) or " " in value


def _looks_random(value: str) -> bool:
    """Whether nobody would have thought of it: long, letters and digits, no words with numbers behind them."""
    return _RANDOM.fullmatch(value) is not None and _WORDY.fullmatch(value) is None
