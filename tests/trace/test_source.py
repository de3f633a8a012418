from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from gemma_trace.errors import InputError
from gemma_trace.trace import source
from gemma_trace.trace.source import SourceState, read_chunks


def drawn(path: Path) -> tuple[bytes, SourceState]:
    state = SourceState()
    return b"".join(read_chunks(path, state)), state


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def noise(count: int) -> bytes:
    """Bytes that don't compress, the same on every run."""
    return random.Random(count).randbytes(count)


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz", "trace"])
def test_gzip_is_told_by_its_bytes_and_not_by_the_name(tmp_path: Path, name: str) -> None:
    assert drawn(put(tmp_path, name, gzip.compress(b"hello"))) == (
        b"hello",
        SourceState(compressed=True, inflated_bytes=5),
    )


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz", "trace"])
def test_plain_text_is_told_by_its_bytes_and_not_by_the_name(tmp_path: Path, name: str) -> None:
    assert drawn(put(tmp_path, name, b"hello")) == (b"hello", SourceState(compressed=False, inflated_bytes=5))


def test_an_empty_file_is_empty_plain_text(tmp_path: Path) -> None:
    assert drawn(put(tmp_path, "empty.json.gz", b"")) == (b"", SourceState())


def test_an_empty_gzip_stream_is_neither_truncated_nor_damaged(tmp_path: Path) -> None:
    assert drawn(put(tmp_path, "a", gzip.compress(b""))) == (b"", SourceState(compressed=True))


@pytest.mark.parametrize("read_bytes", [2, 7, 64, 1024 * 1024])
def test_all_members_of_a_gzip_file_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_bytes: int) -> None:
    # However the reads fall on the members' borders.
    monkeypatch.setattr(source, "_READ_BYTES", read_bytes)
    data = gzip.compress(b"one, ") + gzip.compress(b"") + gzip.compress(b"two, ") + gzip.compress(b"three")
    assert drawn(put(tmp_path, "a", data)) == (b"one, two, three", SourceState(compressed=True, inflated_bytes=15))


@pytest.mark.parametrize("read_bytes", [1, 7, 1024 * 1024])
@pytest.mark.parametrize("padding", [1, 512, 5000])
def test_zeros_after_the_last_member_are_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_bytes: int, padding: int
) -> None:
    monkeypatch.setattr(source, "_READ_BYTES", read_bytes)
    assert drawn(put(tmp_path, "a", gzip.compress(b"hello") + bytes(padding))) == (
        b"hello",
        SourceState(compressed=True, inflated_bytes=5),
    )


@pytest.mark.parametrize("compressed", [True, False])
def test_chunks_are_no_larger_than_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool) -> None:
    monkeypatch.setattr(source, "CHUNK_BYTES", 100)
    data = b"0123456789" * 1001
    path = put(tmp_path, "a", gzip.compress(data) if compressed else data)
    chunks = list(read_chunks(path, SourceState()))
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) == 100


def test_a_gzip_stream_that_ends_early_yields_its_beginning(tmp_path: Path) -> None:
    data = noise(20_000)
    compressed = gzip.compress(data)
    got, state = drawn(put(tmp_path, "a", compressed[: len(compressed) // 2]))
    assert 9_000 < len(got) < 11_000
    assert data.startswith(got)
    assert (state.truncated, state.damaged, state.inflated_bytes) == (True, False, len(got))


@pytest.mark.parametrize("kept", [2, 9, 10])
def test_a_gzip_stream_that_ends_within_its_header_is_truncated(tmp_path: Path, kept: int) -> None:
    assert drawn(put(tmp_path, "a", gzip.compress(b"hello")[:kept])) == (
        b"",
        SourceState(compressed=True, inflated_bytes=0, truncated=True),
    )


@pytest.mark.parametrize("lost", [1, 4, 8])
def test_a_gzip_stream_without_its_checksum_yields_everything_and_is_truncated(tmp_path: Path, lost: int) -> None:
    assert drawn(put(tmp_path, "a", gzip.compress(b"hello")[:-lost])) == (
        b"hello",
        SourceState(compressed=True, inflated_bytes=5, truncated=True),
    )


def test_a_second_member_that_ends_early_is_truncation(tmp_path: Path) -> None:
    second = gzip.compress(noise(1000))
    got, state = drawn(put(tmp_path, "a", gzip.compress(b"whole") + second[:500]))
    assert got.startswith(b"whole" + noise(1000)[:400])
    assert (state.truncated, state.damaged) == (True, False)


def test_damage_in_the_middle_yields_what_was_inflated_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_READ_BYTES", 1000)
    data = bytes(random.Random(1).choices(b"0123456789abcdef", k=200_000))
    damaged = bytearray(gzip.compress(data))
    middle = len(damaged) // 2
    damaged[middle : middle + 2000] = b"\xff" * 2000
    got, state = drawn(put(tmp_path, "a", bytes(damaged)))
    agreeing = next((i for i, (a, b) in enumerate(zip(got, data, strict=False)) if a != b), len(got))
    assert 90_000 < agreeing < 110_000
    assert (state.truncated, state.damaged, state.inflated_bytes) == (False, True, len(got))


def test_a_broken_member_leaves_those_before_it_whole(tmp_path: Path) -> None:
    broken = bytearray(gzip.compress(noise(1000)))
    broken[2] = 99  # no compression method that there is
    got, state = drawn(put(tmp_path, "a", gzip.compress(b"whole") + broken))
    assert got == b"whole"
    assert (state.truncated, state.damaged) == (False, True)


def test_a_wrong_checksum_is_damage(tmp_path: Path) -> None:
    wrong = bytearray(gzip.compress(b"hello"))
    wrong[-8] ^= 0xFF
    _, state = drawn(put(tmp_path, "a", bytes(wrong)))
    assert (state.truncated, state.damaged) == (False, True)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^no file at .*gone\.json; check the path$"):
        drawn(tmp_path / "gone.json")


def test_a_folder_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder; give a trace file in it$"):
        drawn(tmp_path)


def test_a_file_below_a_file_cant_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^can't read .*: Not a directory$"):
        drawn(put(tmp_path, "file", b"") / "trace.json")
