"""Traces behind URLs: what is read of them, what is shown of them, and what is said where they can't be read.

An S3 server of moto's and a web server of the tests' own listen on loopback; `memory://` needs none.
"""

from __future__ import annotations

import http.server
import importlib
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import gemma_trace
from gemma_trace import remote
from gemma_trace.cli import main
from gemma_trace.remote import RemotePath, path_of
from gemma_trace.remote_errors import shown_url
from gemma_trace.trace.folders import find_traces
from tests.conftest import ROOT
from tests.trace_builder import TraceBuilder

fsspec = pytest.importorskip("fsspec", reason="needs the extra scale")
BUCKET = "nightly"
SECRETS = ("ann", "pw-of-hers", "signature-of-hers")


def built(prefill_ns: int = 400) -> TraceBuilder:
    trace = TraceBuilder()
    for place, start in enumerate((0, 2000)):
        trace.range("request", start, 1000).range("prefill", start + 100, prefill_ns)
        trace.op("aten::mm", start + 150, 100).launch(place + 1, start + 160)
        trace.kernel("gemm", start + 200, 300, correlation=place + 1)
    return trace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Traces at several depths; by torch.profiler's names but for one, and a file that is none."""
    for name in ("b/one.pt.trace.json.gz", "b/two.pt.trace.json", "b-c/three.pt.trace.json", "a/four.pt.trace.json"):
        built().write(tmp_path / "runs" / name)
    built().write(tmp_path / "runs" / "other.json")
    (tmp_path / "runs" / ".hidden.pt.trace.json").write_text("{}")
    return tmp_path / "runs"


Put = Callable[[Path, str], str]


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    pytest.importorskip("s3fs", reason="needs the extra scale")
    moto = pytest.importorskip("moto.server", reason="needs moto's server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Put]:
    """Puts a folder's files into a bucket; gives its URL."""
    for name, value in (
        *(("AWS_ENDPOINT_URL", s3_server), ("AWS_DEFAULT_REGION", "us-east-1")),
        *(
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", "testing"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ),
    ):
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    files = fsspec.filesystem("s3", use_listings_cache=False)
    files.makedirs(BUCKET, exist_ok=True)
    yield lambda folder, name: put(files, folder, f"s3://{BUCKET}/{name}")
    files.rm(BUCKET, recursive=True)
    files.clear_instance_cache()


@pytest.fixture
def memory() -> Iterator[Put]:
    files = fsspec.filesystem("memory")
    yield lambda folder, name: put(files, folder, f"memory://{name}")
    files.store.clear()
    files.pseudo_dirs.clear()


def put(files: object, folder: Path, url: str) -> str:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            files.pipe_file(f"{url}/{file.relative_to(folder).as_posix()}", file.read_bytes())  # type: ignore[attr-defined]
    return url


@pytest.fixture(params=["s3", "memory"])
def put_remotely(request: pytest.FixtureRequest) -> Put:
    found: Put = request.getfixturevalue(request.param)
    return found


def test_a_folder_lists_as_a_local_one_does(put_remotely: Put, folder: Path) -> None:
    url = put_remotely(folder, "runs")
    local = [path.relative_to(folder).as_posix() for path in find_traces([folder])]
    assert local == ["a/four.pt.trace.json", "b/one.pt.trace.json.gz", "b/two.pt.trace.json", "b-c/three.pt.trace.json"]
    assert [str(path) for path in find_traces([path_of(url)])] == [f"{url}/{name}" for name in local]
    assert [trace.label for trace in gemma_trace.load_all(url)] == ["four", "one", "two", "three"]


def test_a_trace_is_the_same_as_its_copy_here(put_remotely: Put, folder: Path) -> None:
    url = put_remotely(folder, "runs")
    for name in ("b/one.pt.trace.json.gz", "a/four.pt.trace.json"):
        here, there = gemma_trace.load(folder / name), gemma_trace.load(f"{url}/{name}")
        assert there.label == here.label
        assert there.stages().to_frame().equals(here.stages().to_frame())
        assert there.spans.ts_ns.tolist() == here.spans.ts_ns.tolist()


COMMANDS = (
    ("stages", "{}/b/one.pt.trace.json.gz"),
    ("kernels", "{}/b/one.pt.trace.json.gz", "--format", "csv"),
    ("tree", "{}/a"),
    ("check", "{}/a"),
    ("summarize", "{}"),
    ("diff", "{}/a/four.pt.trace.json", "{}/b/two.pt.trace.json"),
    ("stages", "{}/a", "--rules", "{}/rules.toml"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_commands_answer_as_for_a_copy_here(
    command: tuple[str, ...], memory: Put, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "rules.toml").write_text('[stages]\ndecode = "aten::mm"\n')
    url = memory(folder, "runs")
    answers = []
    for place in (str(folder), url):
        code = main([part.format(place) for part in command])
        shown = capsys.readouterr()
        answers.append((code, shown.out.replace(place, "RUNS"), shown.err.replace(place, "RUNS")))
    assert answers[0] == answers[1]
    assert answers[0][0] in (0, 1)
    assert answers[0][1].strip()


def test_what_is_written_of_a_remote_trace_is_written_here(
    s3: Put, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    url = s3(folder, "runs")
    assert main(["report", f"{url}/a"]) == 0
    assert main(["export", f"{url}/a", "-o", "there.json"]) == 0
    assert main(["export", str(folder / "a"), "-o", "here.json"]) == 0
    assert (tmp_path / "there.json").read_bytes() == (tmp_path / "here.json").read_bytes()
    assert main(["export", f"{url}/a", "--redact", "-o", "redacted.json"]) == 0
    assert (tmp_path / "a.html").exists() or (tmp_path / "four.html").exists()
    capsys.readouterr()
    assert main(["stages", f"{url}/a", "-o", f"{url}/table.csv"]) == 1
    assert capsys.readouterr().err == (
        "gemma-trace: outputs are files of this machine, and that is a URL; give a path, and copy the file there\n"
    )


def test_ranks_are_read_in_processes(s3: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in (0, 1):
        trace = built().json().replace(b"{", b'{"distributedInfo": {"rank": %d, "world_size": 2}, ' % rank, 1)
        (tmp_path / "job").mkdir(exist_ok=True)
        (tmp_path / "job" / f"rank{rank}.json").write_bytes(trace)
    url = s3(tmp_path / "job", "job")
    monkeypatch.setattr("gemma_trace.parallel.WORTHWHILE_BYTES", 0)
    monkeypatch.setenv("GEMMA_TRACE_JOBS", "2")
    job = gemma_trace.load_ranks(url)
    assert [rank.rank for rank in job.ranks] == [0, 1]
    assert job.to_frame().equals(gemma_trace.load_ranks(tmp_path / "job").to_frame())


def test_a_file_is_asked_for_in_parts(s3: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer holds more than two blocks, whatever the file's size is."""
    core = importlib.import_module("s3fs.core")
    (tmp_path / "large").mkdir()
    content = bytes(range(256)) * 4096
    (tmp_path / "large" / "x").write_bytes(content)
    url = s3(tmp_path / "large", "large")
    monkeypatch.setattr(remote, "_BLOCK_BYTES", 64 << 10)
    monkeypatch.setattr(remote, "_BUFFER_BYTES", 16 << 10)
    sizes: list[int] = []
    fetch = core._fetch_range

    def noting(*args: object, **more: object) -> bytes:
        data: bytes = fetch(*args, **more)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(core, "_fetch_range", noting)
    with path_of(f"{url}/x").open("rb") as file:
        assert file.read() == content
        file.seek(1000)
        assert file.read(10) == content[1000:1010]
    assert max(sizes) <= (64 << 10) + (16 << 10)
    assert len(sizes) > 10


class _Web(http.server.BaseHTTPRequestHandler):
    """The first folder of an address says how it is answered."""

    content = b""
    asked: tuple[str, ...] = ()

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self) -> None:
        kind = self.path.split("/")[1]
        type(self).asked = (*self.asked, f"{self.command} {kind}")
        refused = {"denied": 403, "broken": 500, "none": 404}.get(kind, 0)
        if kind == "get-only" and self.command == "HEAD":
            refused = 403
        if refused:
            self.send_error(refused)
            return
        content = self.content
        if self.path.partition("?")[0].endswith("/"):
            content = b'<a href="../">up</a> <a href="./">here</a> <a href="b.json">b</a> <a href="a.json">a</a>'
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        if kind != "unsized":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if kind == "cut" else content)


@pytest.fixture
def web() -> Iterator[str]:
    """The address of a web server, with a user's name and password in it."""
    pytest.importorskip("aiohttp", reason="needs the extra scale")
    _Web.content, _Web.asked = built().json(), ()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Web) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://ann:pw-of-hers@127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", ["plain", "get-only", "unsized"])
def test_any_web_server_will_do(kind: str, web: str) -> None:
    trace = gemma_trace.load(f"{web}/{kind}/run.json?X-Amz-Signature=signature-of-hers")
    assert trace.label == "run"
    assert trace.stages().to_frame().equals(built_here().stages().to_frame())
    assert not [secret for secret in SECRETS if secret in f"{trace!r} {trace.path} {trace.path!r}"]


def built_here() -> gemma_trace.Trace:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return gemma_trace.load(built().write(Path(folder) / "run.json"))


def test_a_folder_of_a_web_server_is_a_page_of_links(web: str) -> None:
    shown = shown_url(web)
    assert [str(path) for path in find_traces([path_of(f"{web}/plain/")])] == [
        f"{shown}/plain/a.json",
        f"{shown}/plain/b.json",
    ]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("cut", "can't read {}: the connection was cut; try again"),
        ("denied", "can't read {}: access is denied; check the credentials in its provider's configuration"),
        ("broken", "can't read {}: the server answers 500; check the URL"),
        ("none", "no file or folder at {}; check the path"),
    ],
)
@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["", "debug"])
def test_what_goes_wrong_is_one_line_without_secrets(
    kind: str, said: str, debug: list[str], web: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{web}/{kind}/run.json?X-Amz-Signature=signature-of-hers"
    assert main(["stages", url, *debug]) == 4
    shown = capsys.readouterr()
    last = shown.err.splitlines()[-1]
    assert last.endswith(said.format(shown_url(url)))
    assert shown.err.startswith("Traceback" if debug else "gemma-trace: ")
    assert debug or shown.err == f"{last}\n"
    assert not [secret for secret in SECRETS if secret in shown.out + shown.err]


def test_a_bucket_that_is_not_there_and_one_that_is_not_ours(
    s3: Put, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = s3(folder, "runs")
    for missing in ("s3://no-such-bucket/run.json", f"{url}/none.json", f"{url}-none"):
        assert main(["stages", missing]) == 4
        assert capsys.readouterr().err == f"gemma-trace: no file or folder at {missing}; check the path\n"
    assert main(["stages", s3(folder / "b", "b")]) == 1
    assert "has 2 traces in it; give one of them, e.g. s3://" in capsys.readouterr().err

    async def denied(*args: object, **more: object) -> None:
        raise PermissionError("Access Denied: testing")

    with monkeypatch.context() as patches:
        patches.setattr("s3fs.S3FileSystem._call_s3", denied)
        assert main(["stages", f"{url}/a/four.pt.trace.json"]) == 4
    assert "access is denied; check the credentials" in capsys.readouterr().err


def test_no_server_and_no_such_kind_of_url(capsys: pytest.CaptureFixture[str]) -> None:
    with closed_port() as port:
        assert main(["stages", f"http://127.0.0.1:{port}/run.json"]) == 4
    assert "there is no connection to its server; check the address and the network" in capsys.readouterr().err
    for url in ("nosuch://ann:pw-of-hers@bucket/run.json", "file://elsewhere/run.json"):
        assert main(["stages", url]) == 4
        said = capsys.readouterr().err
        assert "is not a URL that can be read; give s3://, gs://, hf://, https:// or a path" in said
        assert "pw-of-hers" not in said


@contextmanager
def closed_port() -> Iterator[int]:
    """A port of loopback's on which nobody listens, and nobody will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_without_the_extra_one_line_names_it(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules[sys.argv[1]] = None; from gemma_trace.cli import main; sys.exit(main(sys.argv[2:]))"
    )
    for package, url in (
        ("fsspec", "memory://run.json"),
        ("s3fs", "s3://b/run.json"),
        ("aiohttp", "https://h/run.json"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, package, "stages", url],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            check=False,
        )
        assert done.stderr == f'gemma-trace: {package} is not installed; run: pip install "gemma-trace[scale]"\n'
        assert done.returncode == 1


def test_nothing_of_fsspec_is_imported_for_a_path_of_this_machine(folder: Path) -> None:
    script = (
        "import sys; from gemma_trace.cli import main; main(sys.argv[1:]); "
        "sys.exit(str(sorted({'fsspec', 'aiohttp', 's3fs', 'distributed'} & set(sys.modules))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "stages", (folder / "a").as_uri()],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "[]"
    assert "Stages of four" in done.stdout


def test_paths_of_urls() -> None:
    path = RemotePath("https://ann:pw-of-hers@host/runs/rank3/run.json?X-Amz-Signature=signature-of-hers#x")
    assert (str(path), path.name, path.parent.name) == ("https://host/runs/rank3/run.json", "run.json", "rank3")
    assert path.parent.parent == RemotePath("https://ann:pw-of-hers@host/runs")
    above = [
        "https://ann:pw-of-hers@host/runs/rank3",
        "https://ann:pw-of-hers@host/runs",
        "https://ann:pw-of-hers@host",
    ]
    assert [folder.url for folder in path.parents] == above
    assert path.parents[1] / "b" / "c.json" == RemotePath("https://ann:pw-of-hers@host/runs/b/c.json")
    again = pickle.loads(pickle.dumps(path))
    assert (again, hash(again), again.url) == (path, hash(path), path.url)
    assert path != RemotePath("https://host/runs/rank3/run.json")
    assert path.resolve() is path.absolute() is path
    assert str(RemotePath("hf://datasets/org/runs@main/run.json")) == "hf://datasets/org/runs@main/run.json"
    assert sorted(map(RemotePath, ["s3://b/a-b/x", "s3://b/a/x"]))[0].url == "s3://b/a/x"
    assert path_of("C:/x") == Path("C:/x")
    assert not isinstance(path_of("a/s3:/b"), RemotePath)
