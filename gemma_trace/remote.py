"""What a URL names, as a path: whoever reads a file or lists a folder needn't know that it lies elsewhere.

fsspec does the work, with what it needs for each kind of URL; credentials are what the provider's own configuration
says. Nothing is asked of the network unless a URL was given. What a URL may hold that is nobody's business, the user's
name and password before an `@` and the signature behind a `?`, is never shown.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import io
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path, PosixPath, PurePath
from typing import Any, BinaryIO, Final, cast
from urllib.parse import unquote, urlsplit

from gemma_trace.errors import GemmaTraceError, MissingExtraError, UnreadableError
from gemma_trace.remote_errors import WEB, reason_of, shown_url

EXTRA: Final = "scale"
GOOGLE_EXTRA: Final = "gcs"

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BLOCK_BYTES: Final = 4 << 20
"""How much is asked for at once of a provider that gives ranges of a file."""
_BUFFER_BYTES: Final = 1 << 20
_MOST_DEPTH: Final = 8
"""So deep are the pages of a web server followed: one may link to itself."""
_CONNECT_S: Final = 20
_SILENCE_S: Final = 60


def path_of(given: str | Path) -> Path:
    """What a text names: a path of this machine, or a URL, of which `file://` is a path of this machine too.

    >>> path_of("traces/demo"), path_of("file:///a%20b"), path_of("s3://bucket/run.json")
    (PosixPath('traces/demo'), PosixPath('/a b'), RemotePath('s3://bucket/run.json'))
    """
    if isinstance(given, Path):
        return given
    if not is_url(given):
        return Path(given)
    if given.lower().startswith("file:///"):
        return Path(unquote(given[len("file://") :]))
    return RemotePath(given)


def is_url(text: str) -> bool:
    """Whether a text is a URL, and not a path of this machine."""
    return _URL.match(text) is not None


class RemotePath(PosixPath):
    """A file or a folder that a URL names. It can be read, listed and looked at, and nothing else.

    Everything that asks the network raises an UnreadableError of one line where the answer is none, but for a
    FileNotFoundError where nothing is there. What was found out once of a path isn't asked again.

    Args:
        url: as it was given, secrets and all; `str()` gives it without.
        state: what a listing said of it.
    """

    url: str

    def __new__(cls, url: str, state: os.stat_result | None = None) -> RemotePath:  # noqa: D102
        return super().__new__(cls, shown_url(url))

    def __init__(self, url: str, state: os.stat_result | None = None) -> None:
        if sys.version_info >= (3, 12):
            super().__init__(shown_url(url))
        self.url = url
        self._state = state
        self._files: list[RemotePath] | None = None

    def __reduce__(self) -> tuple[type[RemotePath], tuple[str, os.stat_result | None]]:
        return RemotePath, (self.url, self._state)

    def __str__(self) -> str:
        return shown_url(self.url)

    def __hash__(self) -> int:
        return hash(self.url)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.url == other.url

    def __lt__(self, other: PurePath) -> bool:
        return self._order() < (other._order() if isinstance(other, RemotePath) else list(other.parts))

    def __gt__(self, other: PurePath) -> bool:
        return self != other and not self < other

    def _order(self) -> list[str]:
        """As paths are sorted: folder by folder."""
        return self.url.split("/")

    @property
    def parent(self) -> RemotePath:  # type: ignore[override, unused-ignore]
        """The folder that it lies in."""
        return RemotePath(_bare(self.url).rstrip("/").rpartition("/")[0])

    @property
    def parents(self) -> Sequence[RemotePath]:  # type: ignore[override, unused-ignore]
        """The folders above it, the innermost first; the last is the bucket or the server."""
        scheme, _, below = _bare(self.url).rstrip("/").partition("://")
        names = below.split("/")
        return [RemotePath(f"{scheme}://{'/'.join(names[:end])}") for end in range(len(names) - 1, 0, -1)]

    def joinpath(self, *names: str | os.PathLike[str]) -> RemotePath:
        """What lies below it."""
        return RemotePath("/".join([_bare(self.url).rstrip("/"), *(os.fspath(name) for name in names)]))

    def __truediv__(self, name: str | os.PathLike[str]) -> RemotePath:
        return self.joinpath(name)

    def resolve(self, strict: bool = False) -> RemotePath:
        """The path itself: a URL has nothing to resolve."""
        return self

    def absolute(self) -> RemotePath:
        """The path itself: a URL is always absolute."""
        return self

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Its kind, its size in bytes (0 where that isn't known) and the time of its last change."""
        if self._state is None:
            if self._is_page():
                self._state = _stat_of({"type": "directory"})
            else:
                with _in_one_line(self):
                    files, name = files_of(self.url)
                    self._state = _stat_of(files.info(name))
        return self._state

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether anything is there."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a file."""
        return self.exists() and stat.S_ISREG(self.stat().st_mode)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a folder: there are files whose names begin with its own."""
        return self.exists() and stat.S_ISDIR(self.stat().st_mode)

    def open(self, *args: Any, **kwargs: Any) -> BinaryIO:  # type: ignore[override]
        """Its content, as it comes: in bounded memory, and no copy of it is made. It can be sought in."""
        return cast(BinaryIO, io.BufferedReader(_Stream(self), _BUFFER_BYTES))

    def rglob(self, pattern: str, **kwargs: Any) -> Iterator[RemotePath]:  # type: ignore[override]
        """The files below it whose names are like this, in no order."""
        if self._files is None:
            with _in_one_line(self):
                self._files = list(self._listed())
        return (file for file in self._files if fnmatch.fnmatchcase(file.name, pattern))

    def _listed(self) -> Iterator[RemotePath]:
        files, root = files_of(self.url)
        depth = _MOST_DEPTH if self._is_page() else None
        for name, info in files.find(root, maxdepth=depth, detail=True).items():
            below = name.removeprefix(root.rstrip("/"))
            if "/./" in below or "/../" in below:  # a page links to itself
                continue
            # As the URL was given; a provider may have another name for the root.
            url = _bare(self.url).rstrip("/") + below if below != name else files.unstrip_protocol(name)
            yield RemotePath(url, _stat_of(info) if info.get("size") is not None else None)

    def _is_page(self) -> bool:
        """Whether it is a web server's page of a folder, which nothing but its name tells."""
        parts = urlsplit(self.url)
        return parts.scheme.lower() in WEB and (not parts.path or parts.path.endswith("/"))

    def opened_at(self, place: int) -> Any:
        """Its content from a place on, as a file of fsspec's."""
        with _in_one_line(self):
            if self.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder", str(self))
            files, name = files_of(self.url)
            if urlsplit(self.url).scheme.lower() in WEB:
                # One answer, read as it comes; not every server gives parts. Any size will do, and saves a question.
                file = files.open(name, "rb", block_size=0, size=1)
                while place and (passed := file.read(min(place, _BUFFER_BYTES))):
                    place -= len(passed)
                return file
            file = files.open(name, "rb", block_size=_BLOCK_BYTES, cache_type="readahead")
            if place:
                file.seek(place)
            return file


class _Stream(io.RawIOBase):
    """A remote file's bytes. To seek is to open it again, which happens where a file is read twice."""

    def __init__(self, path: RemotePath) -> None:
        self._path = path
        self._file = path.opened_at(0)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the end of a remote file isn't known")
        place = offset + (self._at if whence == io.SEEK_CUR else 0)
        if place != self._at:
            self._file.close()
            self._file = self._path.opened_at(place)
            self._at = place
        return place

    def readinto(self, buffer: Any) -> int:
        with _in_one_line(self._path):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            with contextlib.suppress(Exception):
                self._file.close()
        super().close()


def _bare(url: str) -> str:
    """A URL up to its query; that of an object store has none."""
    return re.split(r"[?#]", url, maxsplit=1)[0] if urlsplit(url).scheme.lower() in WEB else url


def files_of(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and what the URL is called in it.

    Raises:
        MissingExtraError: fsspec isn't installed, or what it needs for such a URL.
        UnreadableError: there are no such URLs.
    """
    try:
        from fsspec.core import url_to_fs  # type: ignore[import-untyped, unused-ignore]
        from fsspec.registry import known_implementations  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise MissingExtraError("fsspec", EXTRA) from None
    scheme = urlsplit(url).scheme.lower()
    if scheme not in known_implementations or scheme in ("file", "local"):
        raise UnreadableError(
            f"{shown_url(url)} is not a URL that can be read; give s3://, gs://, hf://, https:// or a path"
        )
    try:
        files, name = url_to_fs(url, use_listings_cache=False, **_options(scheme))
    except ImportError as error:
        package = error.name or str(known_implementations[scheme]["class"]).partition(".")[0]
        raise MissingExtraError(package, GOOGLE_EXTRA if package == "gcsfs" else EXTRA) from None
    return files, name


def _options(scheme: str) -> dict[str, Any]:
    """How a provider is asked, where its package's defaults don't do for large files."""
    if scheme not in WEB:
        return {}
    import aiohttp

    # By default an answer may take five minutes in all.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
    return {"client_kwargs": {"timeout": timeout, "trust_env": True}}


def _stat_of(info: dict[str, Any]) -> os.stat_result:
    is_folder = info.get("type") == "directory"
    size = 0 if is_folder else int(info.get("size") or 0)
    changed = next((info[key] for key in ("LastModified", "mtime", "updated", "created") if info.get(key)), 0)
    changed_s = changed.timestamp() if isinstance(changed, datetime) else changed
    time_s = int(changed_s) if isinstance(changed_s, int | float) else 0
    return os.stat_result((stat.S_IFDIR if is_folder else stat.S_IFREG, 0, 0, 1, 0, 0, size, time_s, time_s, time_s))


@contextlib.contextmanager
def _in_one_line(path: RemotePath) -> Iterator[None]:
    """Whatever a provider's package raises is an error of ours, with nothing of the URL in it that isn't shown.

    Raises:
        FileNotFoundError: nothing is there.
        IsADirectoryError: it is a folder.
        UnreadableError: anything else.
    """
    try:
        yield
    except (GemmaTraceError, IsADirectoryError, MemoryError):
        raise
    except Exception as error:
        reason = reason_of(error)
        if reason is None:
            raise FileNotFoundError(errno.ENOENT, "nothing is there", str(path)) from None
        raise UnreadableError(f"can't read {path}: {reason}") from None
