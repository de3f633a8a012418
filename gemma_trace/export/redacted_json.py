"""Redacts JSON by the keys of members and by the content of texts, including JSON inside of texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import msgspec

from gemma_trace.export.private_names import is_uname, json_in, kind_of_key
from gemma_trace.export.redacted_text import ENVIRONMENTS, HOSTS, MARKS, SECRETS, UNREADABLE, TextRedactor
from gemma_trace.foreign import UNDECODABLE, UnreadableValueError, decoded
from gemma_trace.trace.secret_names import named_kind, names_secrets
from gemma_trace.trace.secrets import find_secrets, readable

DEEPEST: Final = 64
"""How deep values may nest. No profiler nests them this deep."""

_CACHED: Final = 100_000
_LONGEST_CACHED: Final = 2048
_BLOCK_KEY: Final = re.compile(
    r"(?:\w*_)?(?:env|environ|envs|environment)(?:_?(?:variables|vars|list|dump|block))?", re.IGNORECASE
)
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]*")
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)
_FLAG: Final = re.compile(r"--?(?P<name>[A-Za-z][\w.-]*)")
_HANDLER: Final = re.compile(r"(?<![\w.-])[\w.-]+_(?=\d+\.\d{10,}(?:\.|$))")
_NAMES: Final = frozenset({"name", "key", "variable", "var", "header"})
_VALUES: Final = frozenset({"value", "val", "default", "content", "contents"})
_KNOWN: Final = frozenset(
    {
        *("name", "labels", "sort_index", "value", "correlation", "External id", "stream", "device", "bytes", "grid"),
        *("block", "est. achieved occupancy %", "Input Dims", "Input type", "Input Strides", "Concrete Inputs"),
        *("Device Id", "Bytes", "Addr", "Total Allocated", "Total Reserved"),
    }
)
"""Arguments that figures are computed from. They are never renamed."""

_LONG_NUMBER: Final = "123456789012345678901234567890"
_GONE: Final = object()

Members = tuple[tuple[str, bytes], ...]


class JsonRedactor:
    """Redacts names and members of events and headers. Results are cached.

    Args:
        users, hosts: names that are redacted wherever they stand as words of their own.

    Attributes:
        removed: what was removed, counted by kind.
    """

    def __init__(self, users: Collection[str], hosts: Collection[str]) -> None:
        self.removed: Counter[str] = Counter()
        self._texts = TextRedactor(users, hosts, self.removed)
        self._cache: dict[tuple[Any, ...], tuple[Any, Counter[str]]] = {}
        self._told_apart: dict[str, str] = {}
        self._plain: dict[str, bool] = {}
        self._ours = False

    def name(self, raw: bytes, *, symbol: bool = False) -> bytes:
        """The JSON of a span's name. What identifies its stage is kept.

        Args:
            symbol: whether it is the name of a kernel or a call.
        """
        change = self._texts.symbol if symbol else self._texts.name
        changed: bytes = self._remembered((raw, symbol), lambda: self._changed_text(raw, change))
        return changed

    def distinct(self, raw: bytes) -> bytes:
        """The JSON of a value that distinguishes events. Different values stay different."""
        changed: bytes = self._remembered((raw,), lambda: self._changed_text(raw, self._apart))
        return changed

    def member(self, key: str, raw: bytes, *, distinct: bool = False, ours: bool = False) -> Members:
        """A member as one (key, JSON) pair; nothing if all of it is private.

        Args:
            distinct: whether different keys must stay different.
            ours: whether it is the metadata of gemma-trace, whose keys never mark users or hosts.
        """
        if b'"' not in raw and self.is_plain(key):
            return ((key, raw),)
        if len(raw) > _LONGEST_CACHED:
            return self._member(key, raw, distinct=distinct, ours=ours)
        members: Members = self._remembered(
            (key, raw, distinct), lambda: self._member(key, raw, distinct=distinct, ours=ours)
        )
        return members

    def is_plain(self, key: str) -> bool:
        """Whether a member with this key is kept unchanged if it is not text."""
        plain = self._plain.get(key)
        if plain is None:
            if len(self._plain) >= _CACHED:
                self._plain.clear()
            before = self.removed.copy()
            plain = key in _KNOWN or (not self._is_secret(key, _LONG_NUMBER) and self._texts.text(key) == key)
            self.removed.clear()
            self.removed.update(before)
            self._plain[key] = plain
        return plain

    def _remembered(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        known = self._cache.get(key)
        if known is None:
            before = self.removed.copy()
            made = make()
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            self._cache[key] = (made, self.removed - before)
            return made
        if known[1]:
            self.removed.update(known[1])
        return known[0]

    def _changed_text(self, raw: bytes, change: Callable[[str], str]) -> bytes:
        """The redacted JSON; the original bytes if nothing changes."""
        try:
            value = decoded(raw, exact=True)
        except UnreadableValueError:
            return self._unreadable()
        if not isinstance(value, str):
            return self._value_of("", raw)
        changed = change(value)
        return raw if changed == value else msgspec.json.encode(changed)

    def _member(self, key: str, raw: bytes, *, distinct: bool, ours: bool) -> Members:
        self._ours = ours
        value = self._value_of(key, raw)
        self._ours = False
        if value == b"":
            return ()
        if key in _KNOWN:
            return ((key, value),)
        return ((self._apart(key) if distinct else self._texts.text(key), value),)

    def _value_of(self, key: str, raw: bytes) -> bytes:
        """The redacted JSON of a member; empty if the member must be removed."""
        try:
            value = decoded(raw, exact=True)
            changed = self._walk(key, value, 0)
            if changed is _GONE:
                return b""
            return raw if changed is value else msgspec.json.encode(changed)
        except UNDECODABLE:
            return self._unreadable()

    def _unreadable(self) -> bytes:
        self.removed[UNREADABLE] += 1
        return msgspec.json.encode(MARKS[UNREADABLE])

    def _walk(self, key: str, value: Any, depth: int) -> Any:
        """The redacted value; the same object if nothing changes."""
        if depth > DEEPEST:
            self.removed[UNREADABLE] += 1
            return MARKS[UNREADABLE]
        if isinstance(value, str):
            return self._text(key, value, depth)
        if isinstance(value, dict):
            return self._object(key, value, depth)
        if isinstance(value, list):
            return self._list(key, value, depth)
        if value is not None and not isinstance(value, bool) and self._is_secret(key, _written(value)):
            self.removed[SECRETS] += 1
            return MARKS[SECRETS]
        return value

    def _object(self, key: str, value: dict[str, Any], depth: int) -> Any:
        if not self._ours and _is_environment(key, value):
            self.removed[ENVIRONMENTS] += 1
            return _GONE
        if value and names_secrets(key) and key.lower().endswith("s"):
            self.removed[SECRETS] += 1
            return MARKS[SECRETS]
        uname = is_uname(value)
        told = _names_its_value(value)
        kept: dict[str, Any] = {}
        same = True
        for name, each in value.items():
            called = "hostname" if uname and name == "node" else told if told and name.lower() in _VALUES else name
            inner = self._walk(called, each, depth + 1)
            changed = self._texts.text(name) if name not in _KNOWN else name
            same = same and inner is each and changed == name
            while changed in kept:
                changed += "~"
            if inner is not _GONE:
                kept[changed] = inner
        return value if same else kept

    def _list(self, key: str, value: list[Any], depth: int) -> Any:
        texts = [each for each in value if isinstance(each, str)]
        if not self._ours and len(texts) > 1 and all(map(_ASSIGNMENT.fullmatch, texts)) and len(texts) == len(value):
            names = [text.partition("=")[0] for text in texts]
            if _BLOCK_KEY.fullmatch(key) or 2 * sum(map(str.isupper, names)) > len(names) > 2:
                self.removed[ENVIRONMENTS] += 1
                return _GONE
        if any("PRIVATE KEY" in text and find_secrets(text) for text in texts):
            self.removed[SECRETS] += 1
            return [MARKS[SECRETS]]
        kept, flag = [], ""
        for each in value:
            kept.append(self._walk(flag or key, each, depth + 1))
            option = _FLAG.fullmatch(each) if isinstance(each, str) else None
            flag = option["name"] if option else ""
        if all(after is before for after, before in zip(kept, value, strict=True)):
            return value
        return [each for each in kept if each is not _GONE]

    def _text(self, key: str, value: str, depth: int) -> Any:
        if not value:
            return value
        kind = None if self._ours else kind_of_key(key)
        if kind and not value.isdigit():
            self.removed[kind] += 1
            return MARKS[kind]
        if self._is_secret(key, value):
            self.removed[SECRETS] += 1
            return MARKS[SECRETS]
        inner = json_in(value)
        if inner is not None:
            changed = self._walk(key, inner, depth + 1)
            if changed is _GONE:
                return MARKS[ENVIRONMENTS]
            if changed is not inner:
                return changed if isinstance(changed, str) else msgspec.json.encode(changed).decode()
            return self._texts.text(value) if find_secrets(readable(value)) else value
        if key == "traceName":
            value_again = re.split(r"[/\\]", value.rstrip("/\\"))[-1]
            value_again, count = _HANDLER.subn(MARKS[HOSTS] + "_", value_again)
            self.removed[HOSTS] += count
            return self._kept(value, self._texts.text(value_again))
        return self._kept(value, self._texts.text(value))

    @staticmethod
    def _kept(before: str, after: str) -> str:
        return before if before == after else after

    def _is_secret(self, key: str, value: str) -> bool:
        return bool(key) and named_kind(key[-128:], value, quoted=True) is not None

    def _apart(self, text: str) -> str:
        """The redacted text, with a number if it changed, so that different texts stay different."""
        known = self._told_apart.get(text)
        if known is None:
            known = self._texts.text(text)
            if known != text:
                known = self._told_apart[text] = f"{known} ~{len(self._told_apart) + 1}"
        return known


def _is_environment(key: str, value: Mapping[str, Any]) -> bool:
    """Whether an object holds the environment of a process, judged by its key or by its NAME: text pairs."""
    variables = [name for name, each in value.items() if _VARIABLE.fullmatch(name) and isinstance(each, str)]
    return bool(_BLOCK_KEY.fullmatch(key)) or (len(variables) > 2 and 2 * len(variables) > len(value))


def _names_its_value(value: Mapping[str, Any]) -> str:
    """The name that an object gives to its value, as in `{"name": "HF_TOKEN", "value": "…"}`; else ""."""
    if not any(name.lower() in _VALUES for name in value):
        return ""
    return next((each for name, each in value.items() if name.lower() in _NAMES and isinstance(each, str)), "")


def _written(value: Any) -> str:
    """A number's digits."""
    return bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value)
