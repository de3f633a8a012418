"""Locks that end with the process that holds them, however it ends: the system takes them back, after SIGKILL too.

They tell what is still in use from what was left behind. Where the file system has no such locks nothing is refused,
and nothing is taken for left behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

_FLAGS: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_TRIES: Final = 5
_BETWEEN_TRIES_S: Final = 0.02

if sys.platform == "win32":

    def lock_now(descriptor: int, *, shared: bool = False) -> None:
        """No locks of this kind on Windows."""
        raise OSError(errno.ENOTSUP, "no locks of this kind")

else:
    import fcntl

    def lock_now(descriptor: int, *, shared: bool = False) -> None:
        """Lock an open file or folder without waiting.

        Raises:
            BlockingIOError: another holds it.
            OSError: there are no locks here.
        """
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[bool]:
    """Hold a lock while the block runs; gives whether it could be had. Its file goes with its last holder.

    Args:
        path: the lock's file, in a folder that exists.
        shared: others may hold it too, as long as all share it.
    """
    try:
        descriptor = _lock_in_some_tries(path, shared=shared)
    except BlockingIOError:
        yield False
        return
    except OSError:  # no locks here, or a folder that can't be written, of which whoever writes will hear
        yield True
        return
    try:
        yield True
    finally:
        with contextlib.suppress(OSError):
            lock_now(descriptor)  # alone now? Then nobody is left who holds it by this file
            path.unlink()
        os.close(descriptor)


def _lock_in_some_tries(path: Path, *, shared: bool) -> int:
    """Who gives up a lock that is shared has it alone for a moment."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(BlockingIOError):
            return _lock_file(path, shared=shared)
        time.sleep(_BETWEEN_TRIES_S)
    return _lock_file(path, shared=shared)


def _lock_file(path: Path, *, shared: bool) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o666)
        except PermissionError:  # another user's
            descriptor = os.open(path, os.O_RDONLY | _FLAGS)
        try:
            lock_now(descriptor, shared=shared)
            if is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder has just removed it


def is_at(descriptor: int, path: Path) -> bool:
    """Whether what is open here is still what stands at the path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def make_owned(make: Callable[[], tuple[Path, int]]) -> tuple[Path, int]:
    """What `make` makes and opens, locked, so that `is_abandoned` is false of it until this process closes it or ends.

    Args:
        make: makes a new file or folder of another name each time; gives its path and its descriptor, below 0 where it
            can't be opened.
    """
    while True:
        path, descriptor = make()
        if descriptor < 0:
            if os.path.lexists(path):
                return path, descriptor
            continue  # whoever clears up was faster than it could be opened
        try:
            lock_now(descriptor)
            if is_at(descriptor, path):
                return path, descriptor
        except BlockingIOError:
            pass  # whoever clears up took it for abandoned before it was locked
        except OSError:
            return path, descriptor
        os.close(descriptor)


@contextlib.contextmanager
def if_abandoned(path: Path) -> Iterator[bool]:
    """Whether a file or folder is of this user and its maker, who locked it by `make_owned`, has ended.

    While the block runs nobody else takes it for abandoned.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _FLAGS)
    except OSError:
        yield False
        return
    try:
        yield _is_ours_alone(descriptor)
    finally:
        os.close(descriptor)


def _is_ours_alone(descriptor: int) -> bool:
    try:
        lock_now(descriptor)
        return os.fstat(descriptor).st_uid == os.getuid()
    except OSError:
        return False
