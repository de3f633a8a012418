from __future__ import annotations

import io
import os
import random
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from gemma_trace.capture.workload import SAMPLE_SIZES, build_requests, load_image
from gemma_trace.errors import ImageError


def test_sample_images_differ_in_size_and_never_in_content(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    first, second = (build_requests("Hi", [], tmp_path / folder) for folder in ("a", "b"))
    assert [request.image.read_bytes() for request in first] == [request.image.read_bytes() for request in second]
    sizes = [load_image(request.image).size for request in first]
    assert sizes == list(SAMPLE_SIZES)
    assert len(set(sizes)) == len(sizes)
    assert next(request.label for request in first) == "1024x768"


def test_images_of_any_mode_become_rgb(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 6), (1, 2, 3, 4)).save(tmp_path / "alpha.png")
    assert load_image(tmp_path / "alpha.png").mode == "RGB"


def test_a_users_images_are_labelled_by_their_name_alone(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "cat.png")
    assert [request.label for request in build_requests("Hi", [tmp_path / "cat.png"], tmp_path)] == ["cat.png"]


def test_what_is_no_image_is_refused_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("not an image")
    half = tmp_path / "half.png"
    Image.effect_noise((64, 64), 50).save(half)
    half.write_bytes(half.read_bytes()[:500])
    for path, message in (
        (text, "is not an image"),
        (half, "is not an image"),
        (tmp_path, "is a folder or a device, not an image"),
        (tmp_path / "x", "no image at"),
    ):
        with pytest.raises(ImageError, match=message) as caught:
            build_requests("Hi", [path], tmp_path)
        assert "\n" not in str(caught.value)


FORMS = ("JPEG2000", "PNG", "JPEG", "TIFF", "GIF", "WEBP", "DDS", "BMP", "PPM", "TGA", "ICO", "PCX", "SGI")


def png_of(width: int, height: int) -> bytes:
    """A PNG of this size, all black, of a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compressobj(9)
    line = bytes(1 + (width + 7) // 8)
    data = b"".join(rows.compress(line) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8193, 13_000, 20_000])
def test_an_image_that_is_too_large_is_refused_unread(
    tmp_path: Path, side: int, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(side, side))
    assert path.stat().st_size < 80_000
    with pytest.raises(ImageError, match=r"has over 67,108,864 pixels, which is the limit"):
        load_image(path)
    assert not recwarn, "Pillow's own warning would be a second line"


def test_the_largest_image_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(png_of(1 << 16, 1 << 10))
    assert load_image(path).size == (65_536, 1024)


def a_dds_of_no_known_format() -> bytes:
    out = io.BytesIO()
    Image.new("RGBA", (8, 8)).save(out, "DDS")
    data = bytearray(out.getvalue())
    data[80:84], data[84:88] = struct.pack("<I", 4), b"ABCD"  # DDPF_FOURCC
    return bytes(data)


def a_damaged(form: str) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(out, form)
    return out.getvalue()[: len(out.getvalue()) // 2]


@pytest.mark.parametrize(
    "data",
    [a_dds_of_no_known_format(), *(a_damaged(form) for form in ("JPEG2000", "PNG", "JPEG", "TIFF", "GIF", "WEBP"))],
)
def test_what_a_decoder_makes_of_it_is_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "image"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"is not an image that Pillow can read \(.+\); give --image") as caught:
        load_image(path)
    assert "\n" not in str(caught.value)


def test_mutated_images_are_read_or_refused(tmp_path: Path) -> None:
    draw = random.Random(12)
    path = tmp_path / "image"
    refused = lines = 0
    for form in FORMS:
        out = io.BytesIO()
        Image.effect_noise((24, 24), 50).convert("RGB").save(out, form)
        for _ in range(40):
            data = bytearray(out.getvalue())
            for _ in range(draw.choice([1, 3, 20])):
                data[draw.randrange(min(len(data), draw.choice([64, len(data)])))] = draw.randrange(256)
            path.write_bytes(data[: draw.choice([len(data), draw.randrange(1, len(data))])])
            try:
                load_image(path)
            except ImageError as error:
                refused += 1
                lines += str(error).count("\n") + 1
    assert refused == lines > 100


def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ImageError, match="is a folder or a device, not an image"):
        build_requests("Hi", [tmp_path / "fifo"], tmp_path)
