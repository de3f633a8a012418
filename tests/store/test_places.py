from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

import gemma_trace
from gemma_trace.errors import MissingExtraError, UnreadableError
from gemma_trace.store.indexing import Status
from gemma_trace.store.layout import is_store
from gemma_trace.store.places import LocalPlace, Place, open_place
from tests.store.traces import built, content_of


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket of a server on this machine."""
    moto = pytest.importorskip("moto.server", reason="needs moto, a server that speaks S3")
    pytest.importorskip("s3fs", reason="needs the extra scale")
    import boto3  # type: ignore[import-not-found, import-untyped, unused-ignore]

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        host, port = server.get_host_and_port()
        for name, value in (
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
            ("AWS_ACCESS_KEY_ID", "x"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket"
    server.stop()


@pytest.fixture(params=["folder", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place in which nothing is yet."""
    if request.param == "folder":
        return str(tmp_path / "store")
    pytest.importorskip("fsspec", reason="needs the extra scale")
    root = request.getfixturevalue("s3") if request.param == "s3" else "memory:/"
    return f"{root}/{uuid4().hex}/store"


@pytest.fixture
def place(url: str) -> Place:
    return open_place(url)


def test_a_store_is_the_same_wherever_it_lies(url: str, tmp_path: Path) -> None:
    traces = [built(tmp_path / f"{mark}.json", mark) for mark in range(2)]
    gemma_trace.Store(tmp_path / "here").index(traces, jobs=1)
    wanted = content_of(tmp_path / "here")
    store = gemma_trace.Store(url)
    assert store.index(traces, jobs=1).counts == {Status.INDEXED: 2}
    assert content_of(url) == wanted
    assert store.compact().runs == 2
    assert content_of(url) == wanted
    assert store.index(traces, jobs=1).counts == {Status.KNOWN: 2}
    assert is_store(url)


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
    with pytest.raises(UnreadableError, match="nosuch://x is not a URL that can be read"):
        open_place("nosuch://x")
