"""Finds the names of users and hosts in a trace: in paths of home folders, and in members that hold such names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from gemma_trace.export.redacted_text import HOSTS, USERS, says_user_or_host
from gemma_trace.foreign import UnreadableValueError, decoded, members_of, value_of
from gemma_trace.trace.salvage import EventSink

_HOST_KEY: Final = re.compile(
    r"(?:\w*_)?(?:host_?names?|host|node_?name|fqdn|machine_?name|computer_?name|server_?name|pod_?name|master_?addr)|"
    r"\w*host_?name",
    re.IGNORECASE,
)
_USER_KEY: Final = re.compile(
    r"(?:\w*_)?(?:user_?names?|user|login|log_?name|owner|author|(?:started|created|launched|submitted)_by)|"
    r"\w*user_?name",
    re.IGNORECASE,
)
_UNAME: Final = ({"node", "machine"}, {"node", "release"}, {"node", "system"})
"""The keys of an object that holds `platform.uname()`, whose `node` is the name of the host."""

_HOME: Final = re.compile(
    r"(?P<url>\b(?!file:)[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s\"'<>]*)"
    r"|(?:/(?:home|Users)/+|[\\/](?:Users|Documents and Settings)[\\/]+|torchinductor_)"
    r"(?:(?P<several>[^\\/\"'`:;,*?<>|\s]+(?: [^\\/\"'`:;,*?<>|\s]+){1,3})(?=[\\/])"
    r"|(?P<user>[^\\/\s\"'`:;,*?<>|()\[\]{}=&]+))"
)
_HANDLER: Final = re.compile(r"(?<![\w.-])(?P<host>[\w.-]+)_\d+\.\d{10,}(?=\.|$)")
"""The file names of torch.profiler's TensorBoard handler: host, process, time."""

_LONGEST: Final = 256
_TEXTS_IN_TEXTS: Final = 8
"""How deep JSON inside of texts is searched."""

_SEEN: Final = 100_000
_COMMON: Final = frozenset(
    [
        "a",
        "an",
        "and",
        "the",
        "of",
        "to",
        "in",
        "on",
        "at",
        "by",
        "for",
        "is",
        "it",
        "as",
        "or",
        "no",
        "not",
        "none",
        "null",
        "true",
        "false",
        "unknown",
        "user",
        "users",
        "root",
        "admin",
        "administrator",
        "public",
        "shared",
        "default",
        "guest",
        "nobody",
        "test",
        "tests",
        "home",
        "work",
        "data",
        "local",
        "localhost",
        "localdomain",
        "host",
        "hosts",
        "node",
        "nodes",
        "master",
        "worker",
        "workers",
        "server",
        "client",
        "main",
        "name",
        "names",
        "app",
        "apps",
        "run",
        "runner",
        "model",
        "models",
        "module",
        "modules",
        "train",
        "trainer",
        "training",
        "python",
        "python3",
        "torch",
        "pytorch",
        "triton",
        "vllm",
        "sglang",
        "transformers",
        "aten",
        "cuda",
        "cupti",
        "nccl",
        "rccl",
        "hip",
        "rocm",
        "gpu",
        "cpu",
        "tpu",
        "npu",
        "xpu",
        "device",
        "kernel",
        "stream",
        "step",
        "steps",
        "decode",
        "prefill",
        "sampling",
        "request",
        "requests",
        "memory",
        "cache",
        "thread",
        "process",
        "trace",
        "traces",
        "profiler",
        "profile",
        "op",
        "ops",
        "nn",
        "op_builder",
        "bin",
        "lib",
        "src",
        "opt",
        "usr",
        "var",
        "tmp",
        "etc",
        "mnt",
        "dev",
        "linux",
        "ubuntu",
        "debian",
        "centos",
        "fedora",
        "alpine",
        "windows",
        "jovyan",
        "ec2-user",
        "vscode",
        "codespace",
        "vagrant",
        "docker",
        "container",
        "conda",
        "mamba",
        "spark",
        "ray",
        "slurm",
        "system",
        "forward",
        "backward",
        "call",
        "init",
        "iteration",
        "start",
        "end",
        "record",
        "window",
        "void",
        "float",
        "half",
        "double",
        "int",
        "file",
        "files",
        "path",
        "list",
        "dict",
        "tuple",
        "set",
        "str",
        "method",
        "object",
        "function",
        "built-in",
        "string",
        "code",
        "batch",
        "layer",
        "attention",
    ]
)
"""Names that identify nobody. They are also common words, so they are kept outside of paths."""


def kind_of_key(key: str) -> str | None:
    """Whether a member with this key holds the name of a user or a host."""
    if _HOST_KEY.fullmatch(key):
        return HOSTS
    return USERS if _USER_KEY.fullmatch(key) else None


def is_uname(value: Mapping[str, Any]) -> bool:
    """Whether an object holds the result of `uname`."""
    return any(keys <= value.keys() for keys in _UNAME)


def is_private_name(name: str) -> bool:
    """Whether the name of a user or a host identifies somebody, and is not a word that programs use."""
    return 1 < len(name) < _LONGEST and name.lower() not in _COMMON and not re.fullmatch(r"[\W\d_]+", name)


def host_of_file(name: str) -> str | None:
    """The host in a file name of torch.profiler's TensorBoard handler."""
    handler = _HANDLER.search(name)
    return handler["host"] if handler else None


class PrivateNames(EventSink):
    """Collects names from all events of a file, and at the end from its header.

    Attributes:
        users, hosts: the names that were found.
    """

    def __init__(self) -> None:
        self.users: set[str] = set()
        self.hosts: set[str] = set()
        self._seen: set[bytes] = set()

    def decode(self, array: bytes | memoryview) -> bool:
        """Search events; see `EventSink`."""
        data = bytes(array).decode("utf-8", "replace").encode()
        try:
            events = decoded(data, list[dict[str, msgspec.Raw]])
            for event in events:
                args = event.pop("args", None)
                self._of_members(event)
                if args is not None and b'"' in (raw := bytes(args)):
                    self._of_members(_members(raw))
        except UnreadableValueError:
            return False
        return True

    def of_header(self, header: Mapping[str, msgspec.Raw]) -> None:
        """Search the top-level members."""
        self._of_members(header)
        name = value_of(header["traceName"]) if "traceName" in header else None
        if isinstance(name, str) and (host := host_of_file(re.split(r"[/\\]", name)[-1])):
            self._add(HOSTS, host)

    def _of_members(self, members: Mapping[str, msgspec.Raw]) -> None:
        for key, value in members.items():
            raw = bytes(value)
            if b'"' not in raw and "/" not in key and "\\" not in key and "=" not in key:
                continue
            told = f"{key}:".encode() + raw
            if told in self._seen:
                continue
            if len(self._seen) >= _SEEN:
                self._seen.clear()
            if len(raw) < 1024:
                self._seen.add(told)
            self._of_text(key)
            try:
                texts = list(_walk(key, decoded(raw)))
            except UnreadableValueError:  # it isn't copied either
                continue
            for name, text in texts:
                self._of_pair(name, text)

    def _of_pair(self, key: str, text: str) -> None:
        kind = kind_of_key(key)
        if kind:
            self._add(kind, text)
        self._of_text(text)

    def _of_text(self, text: str) -> None:
        if "/" in text or "\\" in text:
            for home in _HOME.finditer(text):
                name = home["several"] or home["user"]
                if name:
                    self._add(USERS, name)
        if "=" in text or ":" in text:
            for kind, name in says_user_or_host(text):
                self._add(kind, name)

    def _add(self, kind: str, name: str) -> None:
        names = self.hosts if kind == HOSTS else self.users
        short = name.partition(".")[0] if kind == HOSTS else name
        for each in {name, short}:
            if is_private_name(each):
                names.add(each)


def _members(raw: bytes) -> dict[str, msgspec.Raw]:
    if raw.startswith(b"{"):
        return members_of(raw)
    return {"args": msgspec.Raw(raw)}


def _walk(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text of a JSON value with its key, including the texts of JSON inside of texts."""
    waiting = [(key, value, 0)]
    while waiting:
        key, value, depth = waiting.pop()
        if isinstance(value, str):
            yield key, value
            inner = json_in(value) if depth < _TEXTS_IN_TEXTS else None
            if inner is not None:
                waiting.append((key, inner, depth + 1))
        elif isinstance(value, dict):
            uname = is_uname(value)
            for name, each in value.items():
                yield "", name
                waiting.append(("hostname" if uname and name == "node" else name, each, depth))
        elif isinstance(value, list):
            waiting += [(key, each, depth) for each in value]


def json_in(text: str) -> Any:
    """The object or list that a text encodes as JSON; None if it is not such JSON."""
    stripped = text.strip()
    if stripped[:1] + stripped[-1:] not in ("{}", "[]") or '"' not in stripped:
        return None
    try:
        return decoded(stripped, exact=True)
    except UnreadableValueError:
        return None
