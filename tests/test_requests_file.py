from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.errors import ConfigError, GemmaTraceError, UnreadableError
from gemma_trace.request_media import Media, mime_type
from gemma_trace.requests_file import ChatRequest, Text, Turn, read_requests, shuffled

JPEG = b"\xff\xd8\xff\xe0 and what follows"


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photo.jpg").write_bytes(JPEG)
    return tmp_path


def read(folder: Path, *lines: Any, online: bool = False) -> list[ChatRequest]:
    """What a file of these lines holds; what isn't bytes is JSON."""
    file = folder / "requests.jsonl"
    file.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return read_requests(file, online)


def test_a_line_is_a_conversation_in_the_order_in_which_it_is_written(folder: Path) -> None:
    (request,) = read(
        folder,
        {
            "id": "first",
            "messages": [
                {"role": "system", "content": "You are brief."},
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "photo.jpg", "detail": "high"}},
                        {"type": "text", "text": "What is it?"},
                    ],
                },
                {"role": "assistant", "content": "A cat."},
                {"role": "user", "content": "Whose?"},
            ],
            "max_tokens": 3,
            "temperature": 0.5,
        },
    )
    photo = Media("image", folder / "photo.jpg")
    assert request == ChatRequest(
        id="first",
        turns=(
            Turn("user", (photo, Text("What is it?"))),
            Turn("assistant", (Text("A cat."),)),
            Turn("user", (Text("Whose?"),)),
        ),
        system="You are brief.",
        max_new_tokens=3,
    )
    assert request.not_read == ("temperature",)
    assert request.media("image") == (photo,)
    assert photo.read() == JPEG


def test_lines_of_openais_batch_files_are_read_too(folder: Path) -> None:
    body = user("Hi", model="m", max_completion_tokens=7)
    (request,) = read(folder, {"custom_id": "q-1", "method": "POST", "url": "/v1/chat/completions", "body": body})
    assert (request.id, request.max_new_tokens, request.not_read) == ("q-1", 7, ("model",))
    assert request.parts == (Text("Hi"),)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": "photo.jpg"},
        {"type": "image", "path": "photo.jpg"},
        {"type": "image", "image": "photo.jpg"},
        {"type": "image", "url": "FILE_URL"},
        {"type": "image", "base64": base64.b64encode(JPEG).decode()},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64," + base64.b64encode(JPEG).decode()}},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg,%FF%D8%FF%E0 and what follows"}},
    ],
)
def test_an_image_may_be_named_or_written_in_any_usual_way(folder: Path, part: dict[str, Any]) -> None:
    text = json.dumps(user([part])).replace("FILE_URL", (folder / "photo.jpg").as_uri())
    (request,) = read(folder, text.encode())
    (image,) = request.media("image")
    assert image.read() == JPEG
    assert mime_type(image, JPEG) == "image/jpeg"


def test_videos_and_audio_are_read(folder: Path) -> None:
    audio = {
        "type": "input_audio",
        "input_audio": {"data": base64.b64encode(b"RIFF1234WAVE").decode(), "format": "wav"},
    }
    (request,) = read(folder, user([audio, {"type": "video_url", "video_url": {"url": "photo.jpg"}}]))
    (sound,) = request.media("audio")
    assert mime_type(sound, sound.read()) == "audio/wav"
    assert [media.shown for media in request.media("video")] == [str(folder / "photo.jpg")]


def test_requests_without_an_id_are_called_by_their_line_and_empty_lines_are_passed_over(folder: Path) -> None:
    lines = [b"\xef\xbb\xbf" + json.dumps(user("a")).encode(), b"", b"  ", user("b"), user("c", id=9)]
    assert [request.id for request in read(folder, *lines)] == ["1", "4", "9"]


def test_the_order_depends_on_the_seed_alone(folder: Path) -> None:
    requests = read(folder, *(user(str(number)) for number in range(20)))
    assert shuffled(requests, None) == requests
    assert shuffled(requests, 3) == shuffled(requests, 3) != requests
    assert sorted(request.id for request in shuffled(requests, 3)) == sorted(request.id for request in requests)


def test_a_url_is_refused_unless_the_network_is_allowed(folder: Path) -> None:
    line = user([{"type": "image_url", "image_url": {"url": "https://ann:secret@example.org/a.jpg?token=x"}}])
    with pytest.raises(
        ConfigError, match=r"^line 1 of .*: the image https://example.org/a.jpg is on the network; give"
    ):
        read(folder, line)
    (request,) = read(folder, line, online=True)
    assert request.media("image")[0].source == "https://ann:secret@example.org/a.jpg?token=x"
    assert "secret" not in repr(request)


WRONG: tuple[tuple[Any, str], ...] = (
    (b"[1]", "is no request: it can't be read"),
    (b"{", "is no request: it can't be read"),
    (b"\xff\xfe{", "is no request: it can't be read"),
    (b'{"messages":' + b"[" * 100_000, "is no request: it can't be read"),
    ({"messages": "hi"}, "is no request: it can't be read"),
    ({"prompt": "hi"}, "is no request: it can't be read"),
    ({"messages": []}, "its last message is not the user's"),
    ({"messages": [{"role": "system", "content": "s"}]}, "its last message is not the user's"),
    ({"messages": [{"role": "tool", "content": "s"}]}, "'tool' is no role"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "s"}]}, "a system message follows"),
    (user(None), "a message of it is empty"),
    (user([]), "a message of it is empty"),
    (user("a", max_tokens=0), "asks for 0 new tokens"),
    (user("a", max_tokens=True), "it can't be read"),
    (user("a", max_tokens=10**30), "it can't be read|new tokens"),
    (user("a", id="x" * 201), "its id has 201 characters"),
    (user("a", id=" "), "its id has 0 characters"),
    (user([{"type": "file", "text": "x"}]), "'file' is no type of a part"),
    (user([{"type": "text"}]), "has no text"),
    (user([{"type": "image_url"}]), "names no image"),
    (user([{"type": "image", "path": "gone.jpg"}]), r"no image at 'gone.jpg' \(No such file"),
    (user([{"type": "image", "path": "a\0b"}]), r"no image at .* \(no file has such a name\)"),
    (user([{"type": "image", "path": "x" * 5000}]), r"no image at .* \(File name too long\)"),
    (user([{"type": "image", "path": "ab:" + "x" * 5000}]), "nothing of ab: can be read"),
    (user([{"type": "image", "path": "."}]), "is a folder or a device"),
    (user([{"type": "image", "path": "pipe"}]), "is a folder or a device"),
    (user([{"type": "image", "path": ""}]), "the path of the image is empty"),
    (user([{"type": "image", "url": "s3://bucket/a.jpg"}]), "nothing of s3: can be read"),
    (user([{"type": "image", "url": "http://[x"}]), "names no server"),
    (user([{"type": "image", "url": "data:image/png;base64,@@"}]), "base64 of the image can't be decoded"),
    (user([{"type": "image", "url": "data:image/png;base64,"}]), "has no bytes"),
    (user([{"type": "image", "url": "data:image/png;base64"}]), "has no comma"),
)


@pytest.mark.parametrize(("line", "message"), WRONG, ids=range(len(WRONG)))
def test_a_line_that_is_no_request_is_named_in_one_line(folder: Path, line: Any, message: str) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(UnreadableError, match=message) as caught:
        read(folder, user("fine"), line)
    assert str(caught.value).startswith("line 2 of ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 800


def test_files_that_hold_no_requests_are_one_line(folder: Path) -> None:
    with pytest.raises(UnreadableError, match="has no requests in it"):
        read(folder, b"\n\n")
    with pytest.raises(UnreadableError, match=r"line 2 of .* has the id '1', as line 1 has"):
        read(folder, user("a"), user("b", id=1))
    for path, message in ((folder / "none.jsonl", "no file at"), (folder, "can't read .*: Is a directory")):
        with pytest.raises(UnreadableError, match=message):
            read_requests(path)


class _Pictures(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/photo.jpg" else 404)
        self.end_headers()
        self.wfile.write(JPEG)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Pictures) as pictures:
        thread = threading.Thread(target=pictures.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{pictures.server_port}"
        pictures.shutdown()
        thread.join()


def test_a_url_is_fetched_when_it_is_read(folder: Path, server: str) -> None:
    lines = [user([{"type": "image", "url": f"{server}/{name}"}]) for name in ("photo.jpg", "gone.jpg")]
    there, gone = (request.media("image")[0] for request in read(folder, *lines, online=True))
    assert there.read() == JPEG
    with pytest.raises(GemmaTraceError, match=r"can't read http://127.0.0.1:\d+/gone.jpg: Not Found"):
        gone.read()
