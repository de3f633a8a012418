from __future__ import annotations

import io
import os
import random
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.images import images_as_files, load_image
from gemma_trace.capture.torchvision_ops import declare_missing_operators
from gemma_trace.capture.workload import build_requests
from gemma_trace.errors import ImageError
from gemma_trace.request_media import Media


def at(path: Path) -> Media:
    return Media("image", path)


def test_images_of_any_mode_become_rgb(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 6), (1, 2, 3, 4)).save(tmp_path / "alpha.png")
    assert load_image(at(tmp_path / "alpha.png")).mode == "RGB"


def turned(path: Path, orientation: int) -> None:
    image = Image.new("RGB", (8, 6))
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


def odd_images(folder: Path) -> list[Path]:
    """One of each kind that decoders take differently."""
    for orientation in range(1, 9):
        turned(folder / f"exif-{orientation}.png", orientation)
    ramp = [index * 1000 for index in range(48)]
    deep = Image.new("I;16", (8, 6))
    deep.putdata(ramp)
    deep.save(folder / "16-bit.png")
    deep.save(folder / "16-bit.tiff")
    palette = Image.effect_noise((8, 6), 90).convert("RGB").quantize(5)
    palette.save(folder / "palette.png")
    palette.save(folder / "transparent.png", transparency=b"\x00\x80\xff")
    Image.new("LA", (8, 6), (9, 7)).save(folder / "grey-alpha.png")
    Image.new("1", (8, 6), 1).save(folder / "bits.png")
    Image.new("CMYK", (8, 6), (9, 7, 5, 3)).save(folder / "cmyk.jpg")
    Image.new("F", (8, 6), 0.5).save(folder / "float.tiff")
    Image.new("I;16B", (8, 6), 40_000).save(folder / "big-endian.tiff")
    frames = [Image.effect_noise((8, 6), 90).convert("RGB") for _ in range(3)]
    for form in ("gif", "webp", "png", "tiff"):  # of what moves or has pages the first is taken
        frames[0].save(folder / f"moving.{form}", save_all=True, append_images=frames[1:])
    return sorted(folder.iterdir())


@pytest.mark.filterwarnings("ignore:Palette images")
def test_images_are_decoded_as_transformers_decodes_them(tmp_path: Path) -> None:
    declare_missing_operators()
    from transformers.image_utils import load_image as of_transformers

    for path in odd_images(tmp_path):
        with Image.open(path) as opened:  # given a path, it leaves open what moves
            ours, theirs = load_image(at(path)), of_transformers(opened)
        assert (ours.mode, ours.size) == (theirs.mode, theirs.size), path.name
        assert ours.tobytes() == theirs.tobytes(), path.name
    sizes = [load_image(at(tmp_path / f"exif-{orientation}.png")).size for orientation in range(1, 9)]
    assert sizes == [(8, 6)] * 4 + [(6, 8)] * 4, "from 5 on they lie on their side"
    upright = load_image(at(tmp_path / "exif-6.png"))
    assert upright.getpixel((5, 0)) == (255, 0, 0), "what was at the left of the top is at its right"


def test_bytes_are_decoded_as_files_are(tmp_path: Path) -> None:
    turned(tmp_path / "a.png", 6)
    assert load_image(Media("image", (tmp_path / "a.png").read_bytes())).size == (6, 8)
    with pytest.raises(ImageError, match=r"image of 3 bytes is not an image .*; give the request a JPEG"):
        load_image(Media("image", b"abc"), "the request")


def test_pillows_images_are_files_while_the_block_runs(tmp_path: Path) -> None:
    red = Image.new("RGB", (5, 4), (255, 0, 0))
    with images_as_files([red, "a.jpg", red]) as files:
        first, given, third = files
        assert given == "a.jpg"
        assert first.name == "image-1-5x4.png" != third.name
        assert load_image(at(first)).tobytes() == red.tobytes()
    assert not first.exists()
    with images_as_files("b.jpg") as files:
        assert files == ["b.jpg"]
    with images_as_files(iter([red.convert("CMYK")])) as (converted,):
        assert load_image(at(converted)).size == (5, 4)
    turned(tmp_path / "a.png", 6)
    with Image.open(tmp_path / "a.png") as sideways, images_as_files(sideways) as (file,):
        assert file.name == "image-1-6x8.png", "turned, as its own file would be"
        assert load_image(at(file)).tobytes() == load_image(at(tmp_path / "a.png")).tobytes()
    Image.new("RGB", (64, 48)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    with Image.open(tmp_path / "cut.png") as cut:
        for bad in (Image.new("RGB", (0, 0)), cut):
            with pytest.raises(ImageError, match=r"image 1, of the mode .*, can't be sent"):
                images_as_files([bad]).__enter__()


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
            build_requests(CaptureConfig(images=(path,)), tmp_path)
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
        load_image(at(path))
    assert not recwarn, "Pillow's own warning would be a second line"


def test_the_largest_image_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(png_of(1 << 16, 1 << 10))
    assert load_image(at(path)).size == (65_536, 1024)


def a_dds_of_no_known_format() -> bytes:
    out = io.BytesIO()
    Image.new("RGBA", (8, 8)).save(out, "DDS")
    data = bytearray(out.getvalue())
    data[80:84], data[84:88] = struct.pack("<I", 4), b"ABCD"  # DDPF_FOURCC
    return bytes(data)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
"""As telephones write it, which Pillow can't read by itself."""


def a_damaged(form: str) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(out, form)
    return out.getvalue()[: len(out.getvalue()) // 2]


@pytest.mark.parametrize(
    "data",
    [a_dds_of_no_known_format(), HEIC, b""]
    + [a_damaged(form) for form in ("JPEG2000", "PNG", "JPEG", "TIFF", "GIF", "WEBP")],
)
def test_what_a_decoder_makes_of_it_is_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "image"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"is not an image that Pillow can read \(.+\); give images= a JPEG") as caught:
        load_image(at(path))
    assert "\n" not in str(caught.value)


def test_an_image_that_memory_has_no_room_for_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise MemoryError

    turned(tmp_path / "a.png", 1)
    monkeypatch.setattr(Image.Image, "convert", no_room)
    with pytest.raises(ImageError, match=r"a\.png does not fit into memory when it is decoded; give images= a smaller"):
        load_image(at(tmp_path / "a.png"))


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
                load_image(at(path))
            except ImageError as error:
                refused += 1
                lines += str(error).count("\n") + 1
    assert refused == lines > 100


def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ImageError, match="is a folder or a device, not an image"):
        build_requests(CaptureConfig(images=(tmp_path / "fifo",)), tmp_path)
