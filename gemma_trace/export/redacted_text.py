"""What of a text is private, and what stands in its place: secrets, paths, addresses, names of users and hosts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from typing import Final

from gemma_trace.trace.secrets import find_secrets, readable

SECRETS: Final = "secrets"
ENVIRONMENTS: Final = "environment blocks"
USERS: Final = "user names"
HOSTS: Final = "host names"
PATHS: Final = "paths"
ADDRESSES: Final = "e-mail and network addresses"

_MARK: Final = {SECRETS: "<secret>", USERS: "<user>", HOSTS: "<host>"}

_PACKAGES: Final = re.compile(r".*[/\\](?:site|dist)-packages[/\\]", re.DOTALL)
_FRAME: Final = re.compile(r"(?P<path>(?:file://)?(?:/|~|\\\\|[A-Za-z]:[/\\])[^\n]*?)(?P<rest>\(\d+\): .*)?", re.DOTALL)
_NO_PATH: Final = re.compile(r"/(?:device|host|job|replica|task):")
_PATH: Final = re.compile(
    r"(?<![\w.~:/\\<>-])(?:file://)?(?:"
    r"(?:~\w*)?/(?!/)(?:[^\s\"'`<>|*?,;:()\[\]{}=/\\]+/)+(?P<posix>[^\s\"'`<>|*?,;:()\[\]{}=/\\]*)"
    r"|(?:[A-Za-z]:[\\/]+|\\\\[^\s\\/\"]+[\\/]+)(?:[^\n\"'`<>|*?,;:()\[\]{}=/\\]+[\\/]+)*"
    r"(?P<windows>[^\s\"'`<>|*?,;:()\[\]{}=/\\]*))"
)
_HOME: Final = re.compile(r"(?:/home/|/Users/|[A-Za-z]:[\\/]+Users[\\/]+)(?P<user>[^\s/\\\"'<>|*?,;:()\[\]{}=]+)")
_ADDRESS: Final = re.compile(
    r"(?P<mail>(?<![\w.+:/-])[\w.+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)"
    r"|(?P<four>(?<![\w.=+-])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.]))"
    r"|(?P<six>(?<![\w:])(?:[0-9a-fA-F]{1,4}:){4,7}[0-9a-fA-F]{1,4}(?![\w:]))"
    r"|(?P<url>(?<=://)(?:[^\s/@\"']{0,256}@)?[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?=[:/]|$))"
)
_PUBLIC_HOSTS: Final = frozenset({"localhost", "huggingface.co", "github.com", "pytorch.org", "ui.perfetto.dev"})
_COMMON: Final = frozenset(
    re.findall(
        r"\S+",
        "user users root admin ubuntu debian centos home runner python test default work data public shared model "
        "models torch cuda gpu cpu train main app jovyan ec2-user worker node host local localhost none unknown linux",
    )
)
"""Names that say nothing of anybody; they are words of programs too, so that they stay where they are no path."""


def users_in(text: str) -> set[str]:
    """The users whose home folders a text names."""
    return {found["user"] for found in _HOME.finditer(text)}


def is_private_name(name: str) -> bool:
    """Whether a user's or a host's name says who or where it is, and isn't a word that programs use."""
    return len(name) > 2 and name.lower() not in _COMMON and not name.isdigit()


class TextRedactor:
    """Redacts texts, and counts what it took out.

    Args:
        users, hosts: names that are redacted wherever they stand as words of their own.
        removed: where it is counted how often each kind was taken out.
        words: whether names are redacted outside of paths too; not in the names of ops and kernels, which are words.
    """

    def __init__(
        self, users: Collection[str], hosts: Collection[str], removed: Counter[str], *, words: bool = True
    ) -> None:
        self._removed = removed
        around = (r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])") if words else (r"(?:(?<=[/\\])|^)", r"(?=[/\\])")
        self._names = []
        for kind, names in ((HOSTS, hosts), (USERS, users)):
            if names:
                any_of = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
                self._names.append((kind, re.compile(f"{around[0]}(?:{any_of}){around[1]}")))

    def text(self, text: str) -> str:
        """A text without what is private in it; a path keeps its last component, or what is below site-packages."""
        if len(text) < 3:
            return text
        text = self._without_secrets(text)
        text = self._without_paths(text)
        text = _ADDRESS.sub(self._address, text) if any(sign in text for sign in "@.:") else text
        for kind, pattern in self._names:
            text, count = pattern.subn(_MARK[kind], text)
            self._removed[kind] += count
        return text

    def _without_secrets(self, text: str) -> str:
        found = find_secrets(text)
        if "\\" in text and len(find_secrets(readable(text))) > len(found):  # JSON in JSON hides where one stands
            self._removed[SECRETS] += 1
            return _MARK[SECRETS]
        for secret in reversed(found):
            text = text[: secret.start] + _MARK[SECRETS] + text[secret.end :]
        self._removed[SECRETS] += len(found)
        return text

    def _without_paths(self, text: str) -> str:
        if ("/" not in text and "\\" not in text) or _NO_PATH.match(text):
            return text
        whole = _FRAME.fullmatch(text)
        if whole and len(re.findall(r"[/\\]+", whole["path"])) > 1 and not re.search(r"[/\\]\s|\s[/\\]", whole["path"]):
            self._removed[PATHS] += 1
            return _last(whole["path"]) + _PATH.sub(self._path, whole["rest"] or "")
        return _PATH.sub(self._path, text)

    def _path(self, found: re.Match[str]) -> str:
        self._removed[PATHS] += 1
        return _last(found[0])

    def _address(self, found: re.Match[str]) -> str:
        if found["url"] and (found["url"].lower() in _PUBLIC_HOSTS or found["url"].startswith("127.")):
            return found[0]
        if found[0] in ("127.0.0.1", "0.0.0.0"):
            return found[0]
        self._removed[HOSTS if found["url"] else ADDRESSES] += 1
        return _MARK[HOSTS] if found["url"] else "<address>"


def _last(path: str) -> str:
    """A path's last component; of what is installed, what is below site-packages."""
    below, count = _PACKAGES.subn("", path)
    return below if count else re.split(r"[/\\]", path.rstrip("/\\"))[-1]
