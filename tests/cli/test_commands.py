from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from gemma_trace import cli
from tests.conftest import real_trace
from tests.trace_builder import TraceBuilder

COMMANDS = ("capture", "sweep", "summarize", "stages", "kernels", "tree", "diff", "check", "doctor")
KERNEL_KEYS = ["name", "family", "count", "sum_ns", "busy_ns", "min_ns", "median_ns", "max_ns", "share_pct"]
STAGE_KEYS = ["request", "stage", "host_ns", "device_busy_ns", "device_sum_ns", "time_ns", "device_ns"]
STAGE_KEYS += ["exposed_host_ns", "activities", "launches", "shared_ns"]


@pytest.fixture
def built(tmp_path: Path) -> Path:
    trace = TraceBuilder().range("request", 0, 100_000).range("prefill", 1000, 50_000).op("aten::mm", 2000, 30_000)
    return trace.write(tmp_path / "in" / "rank0.1.pt.trace.json.gz")


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_stages_as_json_is_what_the_analysis_found(captured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "stages", captured, "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert (found["schema_version"], found["command"]) == (1, "stages")
    assert found["health"]["verdict"] in ("ok", "warning"), "a warning where the profiler slowed this machine down"
    assert list(found["rows"][0]) == (
        [
            "request",
            "stage",
            "host_ns",
            "device_busy_ns",
            "device_sum_ns",
            "time_ns",
            "device_ns",
            "exposed_host_ns",
            "activities",
            "launches",
            "shared_ns",
        ]
    )
    assert found["totals"]["wall_ns"] == sum(row["time_ns"] for row in found["rows"])
    spans = real_trace(captured).spans
    assert found["totals"]["wall_ns"] == spans.dur_ns[spans.name == spans.names.index("gemma_trace::request")].sum()


def test_a_verdict_stands_under_the_stages_and_why_shows_what_it_rests_on(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, "stages", built)
    assert "host work: 60% gemm, 40% outside ops (Python, other libraries)" in out
    assert "Split of time" not in out
    _, out, _ = run(capsys, "stages", built, "--why")
    assert "Split of time" in out
    _, out, _ = run(capsys, "stages", built, "-f", "json")
    found = json.loads(out)
    reasons = {reason["stage"]: reason for reason in found["totals"]["reasons"]}
    assert reasons["prefill"]["host_ns"] == 50_000
    assert sum(reason["time_ns"] for reason in reasons.values()) == found["totals"]["wall_ns"]


def test_one_request_alone(captured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "stages", captured, "--request", "1", "-f", "json")
    found = json.loads(out)
    assert {row["request"] for row in found["rows"]} == {1}
    assert found["totals"]["requests"] == 1
    code, _, err = run(capsys, "stages", captured, "--request", "9")
    assert (code, err.count("\n")) == (1, 1)
    assert "request 9 not found: " in err
    assert err.endswith(" has requests 0 to 1\n")


def test_kernels_as_json_has_the_schemas_keys(captured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "kernels", captured, "-s", "vision_tower", "--top", "0", "-f", "json")
    found = json.loads(out)
    schema = {"name", "family", "count", "sum_ns", "busy_ns", "min_ns", "median_ns", "max_ns", "share_pct"}
    added = {"devices", "p90_ns", "mean_ns", "request_share_pct", "launch_latency_ns", "grid", "block", "occupancy_pct"}
    assert set(found["rows"][0]) == schema | added | {"launch_shapes"}
    assert {"activities", "unlinked", "device_sum_ns", "device_busy_ns"} <= set(found["totals"])
    _, out, _ = run(capsys, "stages", captured, "-f", "json")
    host_ns = sum(row["host_ns"] for row in json.loads(out)["rows"] if row["stage"] == "vision_tower")
    assert sum(row["sum_ns"] for row in found["rows"]) == host_ns


@pytest.mark.parametrize("by", ["kernel", "op", "module", "layer", "family", "shape"])
def test_kernels_of_any_grouping_have_the_same_sum(captured: Path, capsys: pytest.CaptureFixture[str], by: str) -> None:
    code, out, _ = run(capsys, "kernels", captured, "--by", by, "--top", "0", "--sort", "mean", "-f", "json")
    found = json.loads(out)
    means = [row["mean_ns"] for row in found["rows"]]
    assert (code, means) == (0, sorted(means, reverse=True))
    assert sum(row["sum_ns"] for row in found["rows"]) == found["totals"]["host_self_ns"]
    assert run(capsys, "kernels", captured, "--by", by)[0] == 0


def test_summarize_shows_timed_and_profiled_ttft_and_their_ratio(
    captured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, "summarize", captured)
    for header in ("TTFT ms", "profiled TTFT ms", "× timed"):
        assert header in out
    _, out, _ = run(capsys, "summarize", captured, "-f", "json")
    (row,) = json.loads(out)["rows"]
    assert row["runs"] == 2
    assert row["profiler_inflation"] > 0
    assert row["ttft_ms"]["n"] == 2


def test_the_study_style_is_the_studys(captured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "summarize", captured, "--style", "study", "-f", "markdown")
    lines = out.splitlines()
    assert lines[0] == "## tiny float32"
    headers = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert headers == [
        "Config",
        "ttft [s]",
        "preprocessing [s]",
        "img encoder [s]",
        "text model prefill [s]",
        "preproc./ttft [%]",
        "img. enc. tower time [s]",
        "img. enc. multi-modal projector time [s]",
        "preproc. / preproc. with overhead [s]",
    ]
    cells = [cell.strip() for cell in lines[4].strip("|").split("|")]
    assert cells[0] == "cpu use_fast=True"
    assert all(len(cell.split()) == 3 and [float(number) for number in cell.split()] for cell in cells[1:])


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json", "parquet"])
@pytest.mark.parametrize("command", ["summarize", "stages", "kernels"])
def test_every_format_is_written_whole_and_never_over_a_file(
    command: str, form: str, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    assert run(capsys, command, built, "-f", form, "-o", out) == (0, "", "")
    written = out.read_bytes()
    assert len(written) > 50
    code, _, err = run(capsys, command, built, "-f", form, "-o", out)
    assert (code, err) == (1, f"gemma-trace: {out} exists already; give --force to overwrite it\n")
    assert run(capsys, command, built, "-f", form, "-o", out, "--force")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "report"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["summarize", "EMPTY"], 4, "EMPTY has no trace in it; run: gemma-trace capture --out-dir EMPTY"),
        (["stages", "EMPTY/none.json"], 4, "no file or folder at EMPTY/none.json; check the path"),
        (["stages", "TEXT"], 4, "TEXT is not a trace: it is neither a JSON object nor a list of events"),
        (["kernels", "BUILT", "-s", "prefil"], 1, "has no stage 'prefil'; it has "),
        (["stages", "BUILT", "-f", "parquet"], 2, "parquet is a binary format; give -o FILE"),
        (["stages", "BUILT", "-o", "EMPTY/no/such/x.csv", "-f", "csv"], 1, "can't write EMPTY/no/such/x.csv"),
        (["capture", "--image", "EMPTY/cat.jpg"], 1, "no image at EMPTY/cat.jpg; check --image"),
        (["capture", "--image", "TEXT"], 1, "TEXT is not an image that Pillow can read"),
        (["capture", "--model", "gemma-9000"], 1, "no model 'gemma-9000'"),
        (["capture", "--device", "cuda:99"], 1, "no device cuda:99"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(
    arguments: list[str],
    code: int,
    message: str,
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if arguments[0] in ("capture", "sweep"):
        pytest.importorskip("torch", reason="needs the extra capture")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    monkeypatch.chdir(tmp_path)

    def spelled(text: str) -> str:
        return text.replace("EMPTY", "empty").replace("TEXT", "notes.txt").replace("BUILT", str(built))

    before = sorted(tmp_path.rglob("*"))
    found, out, err = run(capsys, *(spelled(argument) for argument in arguments))
    lines = [line for line in err.splitlines() if line.startswith("gemma-trace:")]
    assert found == code
    assert out == ""
    assert len(lines) == 1
    assert spelled(message) in lines[0]
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


def test_one_bad_file_among_many_is_named_and_the_rest_is_shown(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (built.parent / "rank1.2.pt.trace.json").write_text("{")
    code, out, err = run(capsys, "summarize", built.parent, "-f", "csv")
    assert code == 4
    assert len(out.splitlines()) == 2
    assert "rank1.2.pt.trace.json is not a trace" in err


def test_a_folder_of_several_traces_is_not_one(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (built.parent / "rank1.2.pt.trace.json").write_text("{}")
    code, _, err = run(capsys, "stages", built.parent)
    assert code == 1
    assert "has 2 traces in it; give one of them" in err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"Example: gemma-trace {command}" in " ".join(out.split())


def test_help_shows_brackets_as_they_are_or_not_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "stages", "--help")
    words = " ".join(out.replace("│", " ").split())
    assert 'a table "stages" with lines NAME = "REGEX".' in words


def test_every_json_has_the_same_health(captured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for command in ("summarize", "stages", "kernels", "check"):
        _, out, _ = run(capsys, command, captured, "-f", "json")
        found.append(json.loads(out)["health"])
    assert all(health == found[0] for health in found)


def test_usage_errors_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "frobnicate")[0] == 2
    assert run(capsys, "stages")[0] == 2


def test_a_reader_that_has_seen_enough_is_no_error(built: Path) -> None:
    code = "import sys; from gemma_trace.cli import main; sys.exit(main(['kernels', sys.argv[1], '-f', 'json']))"
    shell = f'"{sys.executable}" -c "{code}" "{built}" | true; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert int(done.stdout) in (0, 1)


def test_a_terminal_that_knows_ascii_alone_gets_a_table(captured: Path) -> None:
    command = [sys.executable, "-m", "gemma_trace", "stages", str(captured)]
    done = subprocess.run(command, capture_output=True, check=True, env={"PATH": "", "PYTHONIOENCODING": "ascii"})
    assert b"vision_tower" in done.stdout
    assert done.stderr == b""


def test_a_pipe_gets_every_column_and_no_colour(captured: Path) -> None:
    command = [sys.executable, "-m", "gemma_trace", "summarize", str(captured)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": "", "FORCE_COLOR": ""})
    assert "No room" not in done.stdout
    assert "\x1b" not in done.stdout


def test_check_says_what_is_wrong_and_ends_with_1_only_on_errors(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "check", built)
    assert code == 0
    assert "No problems were found." in out
    cut = tmp_path / "cut.json"
    cut.write_bytes(gzip.decompress(built.read_bytes())[:-40])
    code, out, _ = run(capsys, "check", cut, "-f", "json")
    found = json.loads(out)
    assert code == 1
    assert found["health"]["verdict"] == "error"
    assert [(row["code"], row["severity"], row["count"]) for row in found["rows"]] == [("truncated", "error", 1)]


def test_stages_by_the_users_own_rules(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[stages]\nmatmul = ["aten::m", "gemm"]\n')
    for arguments in (["--rule", "matmul=aten::mm"], ["--rules", rules]):
        _, out, _ = run(capsys, "stages", built, "-f", "json", *arguments)
        rows = {row["stage"]: row["time_ns"] for row in json.loads(out)["rows"]}
        assert rows == {"prefill": 20_000, "matmul": 30_000, "unattributed": 50_000}
    _, out, _ = run(capsys, "kernels", built, "-f", "json", "--rule", "matmul=aten::mm", "-s", "matmul")
    assert [row["name"] for row in json.loads(out)["rows"]] == ["aten::mm"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["stages", "BUILT", "--rule", "prefill"], 2, "--rule 'prefill' is not a rule; give NAME=REGEX"),
        (["stages", "BUILT", "--rule", "request=x"], 2, "'request' can't be a stage's name"),
        (["stages", "BUILT", "--rule", "x=(("], 2, "'((' is not a regular expression"),
        (["stages", "BUILT", "--rules", "none.toml"], 4, "no file at none.toml; check --rules"),
        (["stages", "BUILT", "--rules", "BUILT"], 4, "as TOML"),
    ],
)
def test_rules_that_are_none_are_refused(
    arguments: list[str], code: int, message: str, built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _, err = run(capsys, *(argument.replace("BUILT", str(built)) for argument in arguments))
    assert (found, err.count("\n")) == (code, 1)
    assert message in err


def test_many_large_files_are_read_by_all_cores_in_their_order(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gemma_trace import parallel

    monkeypatch.setattr(parallel, "WORTHWHILE_BYTES", 1)
    for index in range(4):
        (built.parent / f"copy{index}.1.pt.trace.json.gz").write_bytes(built.read_bytes())
    (built.parent / "broken.1.pt.trace.json").write_text("{")
    code, out, err = run(capsys, "summarize", built.parent, "-f", "json")
    assert code == 4
    assert [row["run"].split(".")[0] for row in json.loads(out)["rows"]] == [f"copy{i}" for i in range(4)] + ["rank0"]
    assert "broken.1.pt.trace.json" in err


def test_a_gate_on_one_request_a_side_is_inconclusive_and_says_why(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "diff", built, built, "--fail-on", "1%", "-f", "json")
    found = json.loads(out)
    assert code == 5
    assert err.startswith("gemma-trace: can't say whether anything is slower than allowed: the side before has ")
    assert "the smallest changes that could be seen are: wall 50.0% (limit 1%)" in err
    assert {row["status"] for row in found["rows"]} == {"same"}
    assert found["totals"]["gate"]["answer"] == "inconclusive"
    code, _, err = run(capsys, "diff", built, built, "--fail-on", "1%", "--inconclusive", "ok")
    assert code == 0
    assert err.startswith("gemma-trace: nothing is known to be slower than allowed, but: ")


def test_a_gate_that_is_exceeded_ends_with_3_and_says_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = []
    for name, length in (("a", 40_000), ("b", 75_000)):
        built = TraceBuilder()
        for request in range(5):
            at = 200_000 * request
            built.range("request", at, 100_000).range("prefill", at + 1000, length).op("aten::mm", at + 2000, 30_000)
        sides.append(built.write(tmp_path / f"{name}.json"))
    report = tmp_path / "gate.xml"
    code, out, err = run(capsys, "diff", *sides, "--fail-on", "prefill:30%", "-f", "markdown", "--junit", report)
    assert (code, err) == (3, "gemma-trace: slower than allowed: prefill +87.5% (limit 30%)\n")
    assert "| prefill" in out, "the table is there for the comment"
    suite = ElementTree.parse(report).getroot()[0]
    assert suite.attrib == {"name": "a → b", "tests": "1", "failures": "1", "skipped": "0"}
    assert [case.get("name") for case in suite] == ["prefill"]
    assert suite[0][0].get("message", "").startswith("+0.035 ms (+87.5%), limit 30%")
    code, _, err = run(capsys, "diff", *sides, "--fail-on", "prefill:200%")
    assert (code, err) == (0, "gemma-trace: nothing is slower than allowed\n")
    code, _, _ = run(capsys, "diff", *sides, "--fail-on", "prefill:+10us")
    assert code == 3
    code, _, err = run(capsys, "diff", *sides, "--fail-on", "much")
    assert (code, err.count("\n")) == (2, 1)
    code, _, err = run(capsys, "diff", *sides, "--junit", tmp_path / "x.xml")
    assert (code, err) == (2, "gemma-trace: --junit writes the result of --fail-on; give --fail-on as well\n")


def test_folders_are_compared_run_by_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = TraceBuilder().range("request", 0, 100_000).range("prefill", 1000, 50_000)
    for name in ("old/one.json", "old/two.json", "new/two.json", "new/three.json"):
        trace.write(tmp_path / name)
    code, out, _ = run(capsys, "diff", tmp_path / "old", tmp_path / "new", "-f", "json")
    totals = json.loads(out)["totals"]
    assert code == 0
    assert totals["pairs"] == 1
    assert [line.split(",")[0] for line in totals["unmatched"]] == ["one", "three"]
    (tmp_path / "new/two.json").unlink()
    code, _, err = run(capsys, "diff", tmp_path / "old", tmp_path / "new")
    assert (code, err.count("\n")) == (1, 1)
    assert "no run in common" in err


def test_tree_as_json_is_every_node_with_its_depth(captured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "tree", captured, "--depth", "0", "--min-pct", "0", "-f", "json")
    found = json.loads(out)
    assert code == 0
    assert list(found["rows"][0]) == ["depth", "name", "kind", "count", "host_ns", "device_ns"]
    assert sum(row["host_ns"] for row in found["rows"] if row["depth"] == 0) == found["totals"]["host_ns"]
    assert {"vision_tower", "prefill"} <= {row["name"] for row in found["rows"] if row["kind"] == "stage"}


def test_tree_of_one_stage_starts_there(captured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "tree", captured, "-s", "vision_tower", "-f", "json")
    rows = json.loads(out)["rows"]
    assert [(row["kind"], row["name"]) for row in rows if row["depth"] == 0] == [("stage", "vision_tower")]
    code, _, err = run(capsys, "tree", captured, "-s", "text_tower")
    assert (code, err.count("\n")) == (1, 1)
    assert "has no stage 'text_tower'; it has image_load, preprocessing" in err
