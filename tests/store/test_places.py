from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from gemma_trace.errors import MissingExtraError, UnreadableError
from gemma_trace.store.places import LocalPlace, Place, open_place


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return open_place(tmp_path / "store")
    pytest.importorskip("fsspec", reason="needs the extra scale")
    return open_place(f"memory://{uuid4().hex}/store")


def test_a_file_comes_back_and_is_listed(place: Place) -> None:
    assert place.files("") == []
    place.write("v1/b/2", b"two")
    place.write("v1/a=1/1", b"one")
    place.write("v1/b/2", b"two again")
    assert place.read("v1/b/2") == b"two again"
    assert place.files("") == ["v1/a=1/1", "v1/b/2"]
    assert place.files("v1/b") == ["v1/b/2"]
    assert place.files("v1/c") == []
    assert place.full("v1/b/2").endswith("/store/v1/b/2")


def test_of_several_one_creates_a_file(place: Place) -> None:
    assert [place.create("v1/m", each) for each in (b"1", b"2")] == [True, False]
    assert place.read("v1/m") == b"1"
    assert place.files("") == ["v1/m"]


def test_what_is_gone_is_gone(place: Place) -> None:
    place.write("v1/x", b"")
    place.remove("v1/x")
    place.remove("v1/x")
    assert place.files("") == []
    with pytest.raises(FileNotFoundError):
        place.read("v1/x")


def test_what_a_killed_writer_left_is_cleared_and_what_another_writes_is_not(tmp_path: Path) -> None:
    place = LocalPlace(tmp_path)
    left = tmp_path / ".unfinished" / ".0123456789abcdef.partial"
    left.parent.mkdir()
    left.write_bytes(b"half")
    with place._whole(b"data") as written:
        place.tidy()
        assert written.read_bytes() == b"data"
    assert not left.exists()
    assert place.files("") == []


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = LocalPlace(tmp_path)
    place.write("v1/x", b"before")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        place.write("v1/x", b"after")
    assert place.read("v1/x") == b"before"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["x"]


def test_without_the_extra_a_url_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtraError, match=r"gemma-trace\[scale\]"):
        open_place("s3://bucket/store")


def test_a_url_of_no_known_kind_is_one_line() -> None:
    pytest.importorskip("fsspec", reason="needs the extra scale")
    with pytest.raises(UnreadableError, match="can't open nosuch://x"):
        open_place("nosuch://x")
