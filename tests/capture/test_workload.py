from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gemma_trace.capture import images
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.images import load_image
from gemma_trace.capture.option_texts import size_of
from gemma_trace.capture.workload import (
    SAMPLE_SIZES,
    build_requests,
    image_numbers,
    largest,
    messages_for,
    request_warnings,
    with_images,
    with_prompt,
)
from gemma_trace.errors import ConfigError, ImageError
from gemma_trace.request_media import Media
from gemma_trace.requests_file import ChatRequest, Text, Turn


def images_of(request: ChatRequest) -> list[tuple[int, int]]:
    return [load_image(image).size for image in request.media("image")]


def file_of(folder: Path, *contents: Any) -> Path:
    """A file of requests, one per content of a user's message."""
    path = folder / "requests.jsonl"
    lines = [json.dumps({"messages": [{"role": "user", "content": content}]}) for content in contents]
    path.write_text("\n".join(lines))
    return path


def test_sample_images_differ_in_size_and_never_in_content(tmp_path: Path) -> None:
    made = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        images._sample_image.cache_clear()
        requests = build_requests(CaptureConfig(), folder)
        made.append([image.read() for request in requests for image in request.media("image")])
    assert made[0] == made[1]
    assert [images_of(request) for request in requests] == [[size] for size in SAMPLE_SIZES]
    assert len(set(made[0])) == len(SAMPLE_SIZES)
    assert requests[0].id == "1024x768"
    assert requests[0].parts[-1] == Text(CaptureConfig().prompt)


def test_images_are_of_the_sizes_that_are_asked_for(tmp_path: Path) -> None:
    config = CaptureConfig(image_sizes=("70x50", "30x20"), images_per_request=2, system="Be brief.")
    first, second = build_requests(config, tmp_path)
    assert (images_of(first), images_of(second)) == ([(70, 50)] * 2, [(30, 20)] * 2)
    assert (first.id, first.system) == ("70x50", "Be brief.")
    assert size_of("3500x2500") == (3500, 2500)


def test_a_users_images_are_labelled_by_their_name_alone(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "cat.png")
    config = CaptureConfig(images=(tmp_path / "cat.png",))
    assert [request.id for request in build_requests(config, tmp_path)] == ["cat.png"]


def test_requests_of_a_file_have_all_that_they_need_at_hand(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "cat.png")
    encoded = io.BytesIO()
    Image.new("RGB", (7, 5)).save(encoded, "PNG")
    data = "data:image/png;base64," + base64.b64encode(encoded.getvalue()).decode()
    both = [{"type": "image_url", "image_url": "cat.png"}, {"type": "image_url", "image_url": data}]
    path = file_of(tmp_path, "Hi", [*both, {"type": "text", "text": "Which?"}], "There")
    requests = build_requests(CaptureConfig(requests=path), tmp_path)
    assert [images_of(request) for request in requests] == [[], [(8, 6), (7, 5)], []]
    assert largest(requests).id == "2"
    assert images_of(with_images(requests[1], 1)) == [(8, 6)]
    shuffled = build_requests(CaptureConfig(requests=path, shuffle=1), tmp_path)
    assert sorted(request.id for request in shuffled) == ["1", "2", "3"] != [request.id for request in shuffled]


def test_what_is_left_out_of_a_file_is_said() -> None:
    more = [f"option-{number}" for number in range(10)]
    requests = [ChatRequest(str(number), (), not_read=tuple(more)) for number in range(12)]
    config = CaptureConfig(requests=Path("r.jsonl"))
    few, named = request_warnings(config, requests)
    assert few == "10 of the 12 requests were run; give --runs 12 for all"
    assert named.endswith(
        "were ignored: option-0, option-1, option-2, option-3, option-4, option-5, option-6, option-7, …"
    )
    assert request_warnings(config, [ChatRequest("1", ())] * 10) == ()
    assert request_warnings(replace(config, shuffle=1), [ChatRequest("1", ())] * 12) == (), "some are drawn"
    assert request_warnings(CaptureConfig(runs=1, profile_runs=1), [ChatRequest("1", ())] * 10) == ()


def test_requests_with_what_captures_dont_send_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("no image")
    for content, kind, message in (
        ([{"type": "image", "path": "notes.jpg"}], ImageError, "is not an image .*; give the request '1' a JPEG"),
        ([{"type": "video", "path": "notes.jpg"}], ConfigError, "'1' of .* has a part of type video; captures send"),
        ([{"type": "image", "url": "http://localhost/a.jpg"}], ConfigError, "is on the network; give online=True"),
    ):
        with pytest.raises(kind, match=message) as caught:
            build_requests(CaptureConfig(requests=file_of(tmp_path, content)), tmp_path)
        assert "\n" not in str(caught.value)


def test_messages_keep_the_order_of_their_parts() -> None:
    picture, other = Image.new("RGB", (1, 1)), Image.new("RGB", (2, 2))
    parts = (Text("First"), Media("image", b"1"), Text("then"), Media("image", b"2"))
    request = ChatRequest("1", (Turn("user", parts), Turn("assistant", (Text("Yes."),)), Turn("user", parts[:1])), "S")
    messages = messages_for(request, [picture, other])
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert [part.get("text", part.get("image")) for part in messages[1]["content"]] == ["First", picture, "then", other]
    assert with_prompt(request, "Last").turns[-1].parts == (Text("Last"),)


def test_images_are_numbered_by_their_content(tmp_path: Path) -> None:
    for name, color in (("a.png", 1), ("again.png", 1), ("b.png", 2)):
        Image.new("L", (4, 4), color).save(tmp_path / name)
    inline = base64.b64encode((tmp_path / "b.png").read_bytes()).decode()
    urls = [["a.png"], ["again.png", "b.png"], [f"data:image/png;base64,{inline}"], []]
    content = [[{"type": "image_url", "image_url": {"url": url}} for url in each] for each in urls]
    path = file_of(tmp_path, *[[*images, {"type": "text", "text": "What is it?"}] for images in content])
    requests = build_requests(CaptureConfig(requests=path), tmp_path)
    assert image_numbers(requests) == ((0,), (0, 1), (1,), ())
