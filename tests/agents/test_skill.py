from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.agents.skill import NAME, skill_files
from gemma_trace.cli import COMMANDS
from tests.conftest import ROOT
from tests.store.traces import built
from tests.test_docs import commands, refusal

FOLDER = ROOT / "gemma_trace" / "agents" / "skill_files"
PAGES = sorted(FOLDER.rglob("*.md"))
READING = ("check", "summarize", "stages", "kernels", "tree", "diff", "sql", "ranks", "advise", "what-if")


def test_it_has_the_open_layout() -> None:
    text = skill_files()["SKILL.md"]
    found = re.match(r"---\nname: (.+)\ndescription: (.+)\n---\n\n# ", text)
    assert found
    assert found[1] == NAME
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", found[1])
    assert len(found[1]) <= 64
    assert 100 < len(found[2]) <= 1024
    assert len(text.encode()) <= 4_500, "an agent reads all of it"
    assert {path.relative_to(FOLDER).as_posix() for path in PAGES} == set(skill_files()), "all of it is installed"
    for reference in re.findall(r"`(references/[^`]+)`", text):
        assert reference in skill_files()


def test_it_is_installed_whole_and_replaces_nothing_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "agents" / "skills"
    assert cli.main(["skill", "--install", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / NAME)
    written = {path.relative_to(folder / NAME).as_posix(): path.read_text() for path in folder.rglob("*.md")}
    assert written == skill_files()
    assert cli.main(["skill", "--install", str(folder)]) == 0, "the same is there already"
    own = folder / NAME / "references" / "verdicts.md"
    own.write_text("mine")
    assert cli.main(["skill", "--install", str(folder)]) == 1
    assert own.read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    assert cli.main(["skill", "--install", str(folder), "--force"]) == 0
    assert own.read_text() == skill_files()["references/verdicts.md"]


def test_what_can_not_be_written_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for given in (str(tmp_path / "file"), "s3://bucket/skills"):
        assert cli.main(["skill", "--install", given]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_a_folder_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["skill"]) == 0
    assert capsys.readouterr().out == skill_files()["SKILL.md"]


def test_every_command_that_only_reads_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that capture are checked in test_docs, which refuses unknown commands, options and values."""
    pytest.importorskip("duckdb", reason="needs the extra scale")
    for mark, name in enumerate(("before", "old/1", "old/2", "old/3", "new/1", "new/2", "new/3", "job8")):
        built(tmp_path / "traces" / name / "rank0.1.pt.trace.json", mark)
    built(tmp_path / "trace.json.gz")
    monkeypatch.chdir(tmp_path)
    ran = 0
    for given in {shlex.join(given): given for page in PAGES for given in commands(page)}.values():
        if given[0] not in READING or len(given) < 2 or given[1].startswith("-"):
            continue
        if any(word in given for word in ("STAGE", "TRACE")):
            continue
        ran += 1
        code = cli.main(given)
        said = capsys.readouterr()
        assert code in ((0, 5) if "--fail-on" in given else (0,)), (given, said.err)
        assert said.out
    assert ran >= 9
    assert not list(tmp_path.glob("*.pt.trace.json"))


def test_it_names_commands_that_are_there() -> None:
    named = {given[0] for page in PAGES for given in commands(page)}
    assert named <= set(COMMANDS)
    assert {"doctor", "capture", "compare", "diff", "check"} <= named


def test_commands_that_are_named_without_the_program_are_understood_too() -> None:
    named = [
        shlex.split(each)
        for page in PAGES
        for each in re.findall(r"`((?:capture|kernels|tree|stages) [^`]+)`", page.read_text())
    ]
    assert len(named) >= 10
    for command, *options in named:
        trace = [] if command == "capture" or "TRACE" in options else ["TRACE"]
        assert refusal([command, *trace, *options]) == ""
    assert refusal(["capture", "--compiled"])
