"""Where a store lies: a folder, or what fsspec makes of a URL. Names in it are relative to it, with "/" between.

A file appears under its name when it is whole: a folder's by renaming it, an object store's by being put at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from gemma_trace.errors import UnreadableError
from gemma_trace.remote import files_of, is_url, path_of
from gemma_trace.remote_errors import reason_of, shown_url
from gemma_trace.trace.files import PARTIAL_SUFFIX, clear_partials
from gemma_trace.trace.locks import make_owned

_UNFINISHED: Final = ".unfinished"
"""The folder of a store in which files are written, until they are whole."""


class Place(Protocol):
    """A folder of files, here or elsewhere. What goes wrong is an OSError."""

    def files(self, folder: str) -> list[str]:
        """All files below a folder, relative to the place, sorted; none where there is no such folder."""

    def read(self, name: str) -> bytes:
        """A file's content."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole, or not at all, over one of that name."""

    def create(self, name: str, data: bytes) -> bool:
        """Write a file whole if there is none of that name; whether there was none. Of several only one succeeds."""

    def remove(self, name: str) -> None:
        """Remove a file; it may be gone already."""

    def full(self, name: str) -> str:
        """A file's path or URL."""

    def arrow_files(self) -> tuple[Any, str]:
        """A filesystem of pyarrow's, and the place in it."""

    def tidy(self) -> None:
        """Clear what killed writers left."""


def open_place(store: str | Path) -> Place:
    """The place that a path or a URL names.

    Raises:
        MissingExtraError: it is a URL, and what its kind needs isn't installed.
        UnreadableError: it is a URL that can't be opened.
    """
    text = str(getattr(store, "url", store))
    if is_url(text) and not text.lower().startswith("file:///"):
        return RemotePlace(text)
    return LocalPlace(path_of(text))


class LocalPlace:
    """A place that is a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self, folder: str) -> list[str]:
        """See `Place`."""
        return sorted(_below(self.folder / folder, folder))

    def read(self, name: str) -> bytes:
        """See `Place`."""
        return (self.folder / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """See `Place`."""
        with self._whole(data) as written:
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            written.replace(target)

    def create(self, name: str, data: bytes) -> bool:
        """See `Place`."""
        with self._whole(data) as written:
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.hardlink_to(written)
            except FileExistsError:
                return False
            return True

    def remove(self, name: str) -> None:
        """See `Place`."""
        (self.folder / name).unlink(missing_ok=True)

    def full(self, name: str) -> str:
        """See `Place`."""
        return str(self.folder / name)

    def arrow_files(self) -> tuple[Any, str]:
        """See `Place`."""
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem(), str(self.folder.absolute())

    def tidy(self) -> None:
        """See `Place`."""
        clear_partials(self.folder / _UNFINISHED)

    @contextlib.contextmanager
    def _whole(self, data: bytes) -> Iterator[Path]:
        """The data in a file of another name, which is gone afterwards."""
        folder = self.folder / _UNFINISHED
        folder.mkdir(parents=True, exist_ok=True)

        def make() -> tuple[Path, int]:
            path = folder / f".{secrets.token_hex(8)}{PARTIAL_SUFFIX}"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
            return path, os.open(path, flags, 0o666)

        partial, descriptor = make_owned(make)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                yield partial  # while it is still locked, and so nobody takes it for left behind
        finally:
            partial.unlink(missing_ok=True)


def _below(folder: Path, name: str) -> Iterator[str]:
    """The names of all files below a folder."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                inner = f"{name}/{entry.name}" if name else entry.name
                if entry.is_dir():
                    yield from _below(folder / entry.name, inner)
                elif not entry.name.startswith("."):
                    yield inner
    except FileNotFoundError:
        return


class RemotePlace:
    """What fsspec makes of a URL. Nothing that it lists is remembered."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        try:
            self._files, self._root = files_of(self._url)
        except ValueError as error:
            raise UnreadableError(f"can't open {shown_url(self._url)}: {reason_of(error)}") from None

    def files(self, folder: str) -> list[str]:
        """See `Place`."""
        with _as_os_errors():
            try:
                listed = self._files.find(f"{self._root}/{folder}" if folder else self._root)
            except FileNotFoundError:
                return []
        return sorted(self._relative(each) for each in listed)

    def read(self, name: str) -> bytes:
        """See `Place`."""
        with _as_os_errors():
            data: bytes = self._files.cat_file(f"{self._root}/{name}")
            return data

    def write(self, name: str, data: bytes) -> None:
        """See `Place`."""
        with _as_os_errors():
            self._files.pipe_file(f"{self._root}/{name}", data)

    def create(self, name: str, data: bytes) -> bool:
        """See `Place`."""
        with _as_os_errors():
            try:
                self._files.pipe_file(f"{self._root}/{name}", data, mode="create")
            except FileExistsError:
                return False
            return True

    def remove(self, name: str) -> None:
        """See `Place`."""
        with _as_os_errors(), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{name}")

    def full(self, name: str) -> str:
        """See `Place`."""
        return f"{self._url}/{name}"

    def arrow_files(self) -> tuple[Any, str]:
        """See `Place`."""
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        return PyFileSystem(FSSpecHandler(self._files)), self._root

    def tidy(self) -> None:
        """Nothing is left: an object that isn't put whole isn't there."""

    def _relative(self, listed: Any) -> str:
        path: str = self._files._strip_protocol(listed)
        return path.removeprefix(self._root).lstrip("/")


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """What a provider's library raises of its own is an OSError too."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        reason = reason_of(error)
        if reason is None:
            raise FileNotFoundError(errno.ENOENT, "nothing is there") from None
        raise OSError(errno.EIO, reason) from None
