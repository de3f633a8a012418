"""README, the pages in analysis/ and the site: links lead somewhere, commands parse, and the Python in them runs."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer.main

from gemma_trace.cli import COMMANDS, build_app, with_command
from gemma_trace.cli.everywhere import taken_out
from tests.conftest import ROOT

SKILL = sorted((ROOT / "gemma_trace").rglob("*.md"))
PAGES = sorted([ROOT / "README.md", ROOT / "traces" / "README.md", *(ROOT / "analysis").rglob("*.md"), *SKILL])
GUIDES = [ROOT / "README.md", *sorted((ROOT / "analysis" / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "analysis").glob("*.ipynb"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
anchor = runpy.run_path(str(ROOT / "analysis" / "site_hooks.py"))["anchor"]


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", text)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and our site make them."""
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", prose(text), re.M)}


def broken(page: Path, text: str) -> Iterator[str]:
    """The links and pictures of a page that lead nowhere, and those that hold on one machine only."""
    for link in re.findall(r"\]\(\s*([^)\s]+)\s*\)", re.sub(r"`[^`\n]*`", "", prose(text))):
        target, _, place = link.partition("#")
        found = (page.parent / target).resolve() if target else page
        is_outside = target.startswith("/") or ":" in target or not found.is_relative_to(ROOT)
        if re.match(r"https?://", link):
            continue
        is_there = not is_outside and (found.exists() or not target)
        if not is_there or (place and place not in anchors(text_of(found) if target else text)):
            yield link


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(broken(page, text_of(page))) == []


def test_a_link_that_leads_nowhere_is_found() -> None:
    wrong = ["gone.md", "#no-such-heading", "/etc/hosts", "file:///etc/hosts", "../README.md#no-such-table"]
    right = ["index.md", "#here-it-is", "https://example.com/gone", "../README.md#sweep---dry-run"]
    text = "# Here it is!\n" + " ".join(f"[x]({link})" for link in wrong + right) + "\n```\n[x](in-code.md)\n```\n"
    assert list(broken(ROOT / "analysis" / "docs" / "new.md", text)) == wrong


def test_no_page_names_a_folder_of_one_machine() -> None:
    for page in PAGES:
        assert not re.search(r"(?<![\w.~])/(?:home|root|Users|work|private)/", text_of(page)), page


def test_every_page_of_the_docs_is_in_the_sites_navigation() -> None:
    navigation = text_of(ROOT / "mkdocs.yml").partition("\nnav:\n")[2]
    listed = re.findall(r": (\S+\.md)$", navigation, re.M)
    there = [str(page.relative_to(ROOT / "analysis")) for page in PAGES if page.is_relative_to(ROOT / "analysis")]
    assert sorted(listed) == sorted(there)


def test_the_readme_is_a_page_that_one_reads() -> None:
    lines = text_of(ROOT / "README.md").splitlines()
    assert len(lines) <= 100
    first_screen = "\n".join(lines[:20])
    assert "make demo" in first_screen
    assert "make test" in first_screen


def commands(path: Path) -> Iterator[list[str]]:
    """The `gemma-trace` command lines of a page, as arguments: those of its blocks, and those between backticks."""
    text = text_of(path)
    lines = [line for language, block in FENCE.findall(text) if language in ("", "sh") for line in block.splitlines()]
    lines += re.findall(r"`(gemma-trace [^`\n]+)`", prose(text))
    for line in lines:
        words = shlex.split(re.sub(r"<\([^)]*\)", "PIPE", line), comments=True)
        while words:
            end = next((place for place, word in enumerate(words) if word in ("&&", "|", ">")), len(words))
            command, words = words[:end], words[end + 1 :]
            if command[:1] == ["gemma-trace"]:
                yield command[1:]
            elif "gemma_trace" in command:
                yield command[command.index("gemma_trace") + 1 :]


def refusal(arguments: list[str]) -> str:
    """What the command line says of arguments that it doesn't understand; nothing is run."""
    given = with_command(taken_out(arguments)[0])
    if given[:1] == ["TRACE"]:
        given = ["stages", *given]
    if not given or given[0] not in COMMANDS:
        return f"{arguments}: no such command" if given and not given[0].startswith("-") else ""
    if "--help" in given:
        given.remove("--help")
    group = typer.main.get_command(build_app([given[0]]))
    try:
        group.commands[given[0]].make_context(given[0], given[1:])  # type: ignore[attr-defined]
    except Exception as error:
        message: str = error.format_message()  # type: ignore[attr-defined]
        # A command may be named without what it needs: `gemma-trace view`.
        return "" if len(given) == 1 and "Missing argument" in message else message
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_is_understood(page: Path) -> None:
    found = list(commands(page))
    assert [(arguments, refusal(arguments)) for arguments in found if refusal(arguments)] == []


def test_commands_are_found_and_wrong_ones_are_refused() -> None:
    assert sum(len(list(commands(page))) for page in GUIDES) > 80
    assert "--stages" in refusal(["kernels", "TRACE", "--stages", "prefill"])
    assert "'colour'" in refusal(["kernels", "TRACE", "--by", "colour"])
    assert "no such command" in refusal(["stagse", "TRACE"])
    assert refusal(["TRACE", "--no-color", "--why"]) == ""


def test_every_command_is_described_in_the_docs() -> None:
    described = {arguments[0] for page in GUIDES for arguments in commands(page) if arguments}
    assert set(COMMANDS) - described == set()


def test_every_example_of_the_help_is_understood() -> None:
    for name in COMMANDS:
        group = typer.main.get_command(build_app([name]))
        text = " ".join((group.commands[name].help or "").split())  # type: ignore[attr-defined]
        examples = re.findall(r"Example: (.+?)(?= Example:|$)", text)
        assert examples, name
        for example in examples:
            for command in example.split("&&"):
                assert refusal(shlex.split(command)[1:]) == ""


def test_the_python_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("duckdb", reason="needs the extra scale")
    samples = ROOT / "traces" / "samples"
    for name, sample in (("demo", "sample-tiny-cpu-torchvision"), ("other", "sample-tiny-cpu-pil")):
        shutil.copytree(samples / sample, tmp_path / "traces" / name)
    monkeypatch.chdir(tmp_path)
    text = text_of(ROOT / "analysis" / "docs" / "api.md")
    blocks = [block for language, block in FENCE.findall(text) if language == "python"]
    shown = [block for block in blocks if "# requires gemma-trace[capture]" not in block]
    assert len(shown) >= 3
    space: dict[str, object] = {}
    for block in shown:
        exec(compile(block, "api.md", "exec"), space)
    assert (tmp_path / "page.html").read_bytes().startswith(b"<!DOCTYPE html>")
    assert "attention" in set(space["trace"].stages().to_frame()["stage"])  # type: ignore[attr-defined]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    if find_spec("mkdocs") is None:
        pytest.skip("needs MkDocs: pip install 'gemma-trace[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "gemma-trace" in text_of(tmp_path / "site" / "index.html")
    for page in (tmp_path / "site").rglob("*.html"):
        assert not re.search(r"<(?:script|link|img)[^>]*(?:src|href)=\"https?:", text_of(page)), page
