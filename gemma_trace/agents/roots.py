"""Which files a server may read: those below the folders and URLs that it was started with, and no others."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gemma_trace.errors import ConfigError, InputError, UnreadableError
from gemma_trace.remote import RemotePath, is_url, path_of
from gemma_trace.trace.folders import find_traces


class Roots:
    """Folders, and URLs of folders.

    Args:
        given: paths or URLs; the first stands for `.`.

    Raises:
        ConfigError: there is none, or one is no folder.
    """

    def __init__(self, given: Sequence[str]) -> None:
        if not given:
            raise ConfigError("there is no folder to read traces in; give one, e.g. gemma-trace mcp traces/")
        self._folders: list[Path] = []
        self._urls: dict[str, str] = {}  # as it is shown, and as it was given, with a password perhaps
        for text in given:
            path = path_of(text)
            if isinstance(path, RemotePath):
                self._urls[str(path).rstrip("/")] = text.rstrip("/")
            elif path.is_dir():
                self._folders.append(path.resolve())
            else:
                raise ConfigError(f"{text} is no folder; give a folder that holds traces")

    def path(self, given: str) -> Path:
        """What a path names that an agent gave: a file or a folder below a root, without a symbolic link in it.

        Args:
            given: relative to a root, or absolute; or a URL below a root.

        Raises:
            InputError: it lies nowhere below a root, or nothing is there.
        """
        if "\0" in given:
            raise InputError("the path has a NUL in it; give a path below the roots")
        if is_url(given):
            return self._remote(given)
        if given == "." and not self._folders:
            return path_of(next(iter(self._urls.values())))
        if ".." in Path(given).parts:
            raise InputError("the path has .. in it; give a path below the roots, as summarize shows it")
        for place in self._places(given):
            try:
                resolved = place.resolve(strict=True)
                mode = resolved.stat().st_mode
            except (OSError, RuntimeError, ValueError):  # a ring of links; a text that is no path
                continue
            if not any(resolved.is_relative_to(folder) for folder in self._folders):
                raise InputError("the path leads out of the roots; give a path below them, as summarize shows it")
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                raise InputError("the path is neither a file nor a folder; summarize shows the traces that are there")
            return resolved
        raise UnreadableError("nothing is at that path below the roots; summarize with path . shows what is there")

    def traces(self, path: Path) -> list[Path]:
        """The traces that such a path names; see `find_traces`.

        Raises:
            InputError: there is none, or one of them is a link that leads out of the roots.
        """
        files = find_traces([path])
        if not all(self.holds(file) for file in files):
            raise InputError("that folder has links to files outside of the roots; give one trace, or another folder")
        return files

    def holds(self, path: Path) -> bool:
        """Whether a path leads to something below a root, whatever links are on its way."""
        if isinstance(path, RemotePath):
            return any(path.url == root or path.url.startswith(f"{root}/") for root in self._urls.values())
        try:
            resolved = path.resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            return False
        return any(resolved.is_relative_to(folder) for folder in self._folders)

    def refuse_links(self, folder: Path) -> None:
        """Raise where anything below a folder leads out of the roots.

        Raises:
            InputError: something does.
        """
        if isinstance(folder, RemotePath) or not folder.is_dir():
            return
        if any(path.is_symlink() and not self.holds(path) for path in folder.rglob("*")):
            raise InputError("that folder has links to files outside of the roots; give another folder")

    def shown(self, path: Path) -> str:
        """A path as an agent may give it again: relative to a root where that leads back to it."""
        if isinstance(path, RemotePath):
            return str(path)
        resolved = path.resolve()
        for folder in self._folders:
            if resolved.is_relative_to(folder):
                relative = resolved.relative_to(folder).as_posix()
                first = next((place for place in self._places(relative) if place.exists()), None)
                if first is not None and first.resolve() == resolved:
                    return relative
        return str(resolved)

    def without_folders(self, text: str) -> str:
        """A message in which paths below a root are relative to it."""
        for folder in sorted(self._folders, key=lambda folder: -len(str(folder))):
            text = text.replace(f"{folder}/", "").replace(str(folder), ".")
        return text

    def _places(self, given: str) -> Iterator[Path]:
        """Where a path may lie."""
        path = Path(given)
        return iter([path]) if path.is_absolute() else (folder / path for folder in self._folders)

    def _remote(self, given: str) -> Path:
        """What a URL names: not by way of a `..` or a query."""
        parts = urlsplit(given)
        is_plain = not parts.query and not parts.fragment and "\\" not in given
        for shown, root in self._urls.items():
            if given == shown:
                return path_of(root)
            if is_plain and given.startswith(f"{shown}/") and ".." not in unquote(unquote(parts.path)).split("/"):
                return path_of(root + given[len(shown) :])
        raise InputError("that URL is not below a root; the server reads only the roots that it was started with")
