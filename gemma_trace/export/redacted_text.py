"""Replaces what is private in a text: secrets, paths, addresses, and names of users and hosts."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Collection
from typing import Final

from gemma_trace.trace.paths import shortened
from gemma_trace.trace.secrets import find_secrets, readable
from gemma_trace.trace.short_paths import MOST_FOLDERS, meaning_of

SECRETS: Final = "secrets"
ENVIRONMENTS: Final = "environment blocks"
USERS: Final = "user names"
HOSTS: Final = "host names"
PATHS: Final = "paths"
ADDRESSES: Final = "e-mail and network addresses"
UNREADABLE: Final = "values that couldn't be read"

MARKS: Final = {
    SECRETS: "<secret>",
    USERS: "<user>",
    HOSTS: "<host>",
    ENVIRONMENTS: "<environment>",
    UNREADABLE: "<unreadable>",
}

_ADDRESS: Final = re.compile(
    r"(?P<mail>(?<![\w.+-])[\w.+-]{1,64}@[A-Za-z0-9-]{1,64}(?:\.[A-Za-z0-9-]{1,64})*\.[A-Za-z]{2,24}\b)"
    r"|(?P<four>(?<![\w.+-])(?<!==)(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.+-]))"
    r"|(?P<six>(?<![\w:.])(?:[0-9A-Fa-f]{1,4})?(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:]))"
    r"|(?P<host>(?<![\w.-])[A-Za-z][A-Za-z-]{0,40}[0-9][A-Za-z0-9-]{0,40}(?:\.[A-Za-z0-9-]{1,63}){0,6}"
    r"\.(?:internal|localdomain|lan|corp|intranet|local)(?![\w.-]))"
    r"|(?P<url>(?<=://)(?:[^\s/@\"']{1,256}@)?[A-Za-z0-9-]{1,64}(?:\.[A-Za-z0-9-]{1,64})*(?=[:/\s\"'?,)\]]|$))",
)
_PUBLIC_HOSTS: Final = re.compile(
    r"(?:[\w-]+\.)*(?:huggingface\.co|hf\.co|github\.com|githubusercontent\.com|pytorch\.org|python\.org|pypi\.org|"
    r"nvidia\.com|perfetto\.dev|speedscope\.app|wikipedia\.org|w3\.org|googleapis\.com|ubuntu\.com|launchpad\.net)|"
    r"localhost|localhost\.localdomain",
    re.IGNORECASE,
)
_DOMAIN: Final = re.compile(
    r"(?:\.[A-Za-z0-9-]{1,63}){0,8}\.(?:internal|local|localdomain|lan|corp|intra|intranet|home|arpa|private|cluster|"
    r"com|net|org|io|ai|edu|gov|mil|cloud|dev|"
    r"(?!py|gz|so|pt|js|ts|md|sh|cc|cu|hh|hs|pb|xz|br|db|pl|rb|rs|go|tf)[a-z]{2})(?![\w-])"
)
"""The domain of a host with its leading dot; not the suffix of a file."""
_VARIABLE: Final = re.compile(
    r"(?<![A-Za-z0-9])(?P<name>(?:SUDO_)?USER(?:NAME|DOMAIN)?|LOGNAME|HOST(?:NAME)?|COMPUTERNAME|"
    r"(?i:user_?name|host_?name|node_?name|login_?name))"
    r"(?P<sign>\\{0,4}[\"']?\s{0,4}[=:]\s{0,4}\\{0,4}[\"']?)(?P<value>[\w.@-]{2,128})",
    re.ASCII,
)
_LINE: Final = re.compile(r"(?:export )?[A-Z_][A-Z0-9_]*=.*")
_TEMPORARY: Final = r"(?<=torchinductor_)"


def says_user_or_host(text: str) -> list[tuple[str, str]]:
    """(kind, name) of every user and host that a text declares, as in `USER=me` or `hostname: box`."""
    told = []
    for match in _VARIABLE.finditer(text):
        kind = HOSTS if re.search(r"host|node|computer|domain", match["name"], re.IGNORECASE) else USERS
        told.append((kind, match["value"]))
    return told


def is_environment_text(text: str) -> bool:
    """Whether a text looks like the output of `env`: three lines or more, most of them NAME=value."""
    lines = [line for line in text[:65536].splitlines() if line.strip()]
    return len(lines) > 2 and 2 * sum(_LINE.fullmatch(line.strip()) is not None for line in lines) > len(lines)


class TextRedactor:
    """Redacts texts and counts what it removes.

    Args:
        users, hosts: names that are redacted wherever they stand as words of their own.
        removed: the counter of removals by kind.
    """

    def __init__(self, users: Collection[str], hosts: Collection[str], removed: Counter[str]) -> None:
        self._removed = removed
        self._words: list[tuple[str, re.Pattern[str]]] = []
        self._apart: list[tuple[str, re.Pattern[str]]] = []
        if hosts:
            self._words.append((HOSTS, re.compile(_host_pattern(hosts))))
        if users:
            self._words.append((USERS, re.compile(rf"(?:(?<!\w)|{_TEMPORARY})(?:{_any_of(users)})(?!\w)")))
        for kind, names in ((HOSTS, hosts), (USERS, users)):
            if names:
                self._apart.append((kind, re.compile(rf"(?<!\S)(?:{_any_of(names)})(?!\S)")))

    def symbol(self, name: str) -> str:
        """The redacted name of a kernel or a call. Such names consist of words, so only isolated ones are removed."""
        return self._without_names(self._without_all_else(name, 0), self._apart)

    def name(self, name: str) -> str:
        """The redacted name of a span. What identifies its stage is kept, including folders if a rule needs them."""
        changed = self.text(name)
        if changed == name or meaning_of(changed) == (meant := meaning_of(name)):
            return changed
        before = self._removed.copy()
        for keep in range(1, MOST_FOLDERS + 1):
            candidate = self.text(name, keep)
            self._removed.clear()
            self._removed.update(before)
            if meaning_of(candidate) == meant:
                return candidate
        return changed

    def text(self, text: str, keep: int = 0) -> str:
        """The redacted text. A path keeps its last component, or what is below site-packages.

        Args:
            keep: number of folders that a path keeps in addition.
        """
        return self._without_names(self._without_all_else(text, keep), self._words)

    def _without_all_else(self, text: str, keep: int) -> str:
        if len(text) < 3:
            return text
        if "=" in text and is_environment_text(text):
            self._removed[ENVIRONMENTS] += 1
            return MARKS[ENVIRONMENTS]
        text = self._without_secrets(text)
        text = _VARIABLE.sub(self._variable, text)
        text = shortened(text, self._cut_a_path, keep)
        if "@" in text or "." in text or ":" in text:
            text = _ADDRESS.sub(self._address, text)
        return text

    def _without_names(self, text: str, names: list[tuple[str, re.Pattern[str]]]) -> str:
        for kind, pattern in names:
            text, count = pattern.subn(MARKS[kind], text)
            self._removed[kind] += count
        return text

    def _cut_a_path(self) -> None:
        self._removed[PATHS] += 1

    def _without_secrets(self, text: str) -> str:
        if "\\" in text:
            plain = readable(text)  # JSON in text, whose escapes hide where a secret stands
            text = plain if len(find_secrets(plain)) > len(find_secrets(text)) else text
        secrets = find_secrets(text)
        for secret in reversed(secrets):
            text = text[: secret.start] + MARKS[SECRETS] + text[secret.end :]
        self._removed[SECRETS] += len(secrets)
        return text

    def _variable(self, assignment: re.Match[str]) -> str:
        ((kind, value),) = says_user_or_host(assignment[0])
        if value.isdigit() or value.lower() in ("none", "null", "true", "false"):
            return assignment[0]
        self._removed[kind] += 1
        return assignment["name"] + assignment["sign"] + MARKS[kind]

    def _address(self, match: re.Match[str]) -> str:
        if match["url"]:
            user, _, host = match[0].rpartition("@")
            if _PUBLIC_HOSTS.fullmatch(host) or host.startswith("127."):
                return match[0]
            self._removed[HOSTS] += 1
            return (f"{user}@" if user else "") + MARKS[HOSTS]
        if match["host"]:
            self._removed[HOSTS] += 1
            return MARKS[HOSTS]
        if match["six"] and not _is_ipv6(match[0]):
            return match[0]
        if match[0] in ("127.0.0.1", "0.0.0.0", "::1"):
            return match[0]
        self._removed[ADDRESSES] += 1
        return "<address>"


def _is_ipv6(text: str) -> bool:
    """Whether it is an IPv6 address, and not a C++ name such as `c10::add` or a time of day."""
    groups = [group for group in text.split(":") if group]
    if not any(group.isdigit() or re.search(r"\d", group) for group in groups) or (
        len(groups) < 3 and "fe80" not in text
    ):
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _host_pattern(hosts: Collection[str]) -> str:
    """A pattern of the hosts as separate words, with their domains, and of all other hosts in these domains."""
    domains = {domain for domain in (host.partition(".")[2] for host in hosts) if _DOMAIN.fullmatch(f".{domain}")}
    others = rf"|(?:[A-Za-z0-9-]{{1,63}}\.){{1,8}}(?:{_any_of(domains)})" if domains else ""
    return rf"(?<![A-Za-z0-9])(?:(?:{_any_of(hosts)})(?:{_DOMAIN.pattern})?{others})(?![A-Za-z0-9])"


def _any_of(names: Collection[str]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
