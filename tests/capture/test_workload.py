from __future__ import annotations

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
        (text, "is no image"),
        (half, "is no image"),
        (tmp_path, "is no image"),
        (tmp_path / "x", "no image at"),
    ):
        with pytest.raises(ImageError, match=message) as caught:
            build_requests("Hi", [path], tmp_path)
        assert "\n" not in str(caught.value)
