from __future__ import annotations

import os
from pathlib import Path

import pytest

from gemma_trace.agents.roots import Roots
from gemma_trace.errors import ConfigError, InputError
from gemma_trace.remote import RemotePath
from tests.store.traces import built


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A root with a trace, beside a folder with another that nobody may read; and links to that one."""
    built(tmp_path / "root" / "runs" / "a.json")
    built(tmp_path / "outside" / "secret.json")
    built(tmp_path / "rooted" / "near.json")  # its name begins as the root's does
    (tmp_path / "root" / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "ring").symlink_to(tmp_path / "root" / "ring")
    (tmp_path / "root" / "inner.json").symlink_to(tmp_path / "root" / "runs" / "a.json")
    os.mkfifo(tmp_path / "root" / "pipe.json")
    return tmp_path


@pytest.mark.parametrize("given", [".", "runs", "runs/a.json", "./runs//a.json", "inner.json"])
def test_what_is_below_a_root_is_found(places: Path, given: str) -> None:
    roots = Roots([str(places / "root")])
    found = roots.path(given)
    assert found.is_relative_to(places / "root")
    assert roots.path(str(found)) == found, "an absolute path below it will do"
    assert roots.path(roots.shown(found)) == found


@pytest.mark.parametrize(
    "given",
    [
        "../outside/secret.json",
        "runs/../../outside/secret.json",
        "runs/..",
        "out/secret.json",
        "out",
        "{}/outside/secret.json",
        "{}/rooted/near.json",
        "{}",
        "/etc/passwd",
        "/dev/zero",
        "~/secret.json",
        "ring",
        "pipe.json",
        "none.json",
        "runs/a.json\0",
        "file://{}/outside/secret.json",
        "file://{}/root/runs/a.json",
        "https://127.0.0.1:9/secret.json",
        "s3://bucket/secret.json",
        "local://{}/outside/secret.json",
        "x" * 5_000,
        "\ud800",
    ],
)
def test_nothing_else_is_read(places: Path, given: str) -> None:
    with pytest.raises(InputError) as refused:
        Roots([str(places / "root")]).path(given.format(places))
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_folder_with_a_link_that_leads_out_is_refused(places: Path) -> None:
    roots = Roots([str(places / "root" / "runs")])
    link = places / "root" / "runs" / "b.json"
    assert len(roots.traces(roots.path("."))) == 1
    link.symlink_to(places / "outside" / "secret.json")
    with pytest.raises(InputError, match="links to files outside"):
        roots.traces(roots.path("."))
    with pytest.raises(InputError, match="links to files outside"):
        roots.refuse_links(roots.path("."))
    assert len(roots.traces(roots.path("a.json"))) == 1, "the others can be named one by one"
    link.unlink()
    link.symlink_to(places / "root" / "runs" / "a.json")
    roots.refuse_links(roots.path("."))


def test_of_several_roots_the_first_that_has_a_path_counts_and_paths_lead_back(places: Path) -> None:
    built(places / "other" / "runs" / "a.json", 1)
    built(places / "other" / "runs" / "b.json")
    roots = Roots([str(places / "root"), str(places / "other")])
    assert roots.path("runs/a.json") == places / "root" / "runs" / "a.json"
    assert roots.path("runs/b.json") == places / "other" / "runs" / "b.json"
    for file in (places / "other" / "runs" / "a.json", places / "other" / "runs" / "b.json"):
        assert roots.path(roots.shown(file)) == file
    assert roots.shown(places / "other" / "runs" / "b.json") == "runs/b.json"
    assert roots.without_folders(f"can't read {places}/other/runs/b.json") == "can't read runs/b.json"


def test_a_url_is_read_only_below_a_root_that_is_one() -> None:
    roots = Roots(["s3://bucket/traces/", "https://me:password@example.com/runs"])
    found = roots.path("s3://bucket/traces/a.json")
    assert isinstance(found, RemotePath)
    assert found.url == "s3://bucket/traces/a.json"
    assert roots.holds(found)
    below = roots.path("https://example.com/runs/a.json")
    assert isinstance(below, RemotePath)
    assert below.url == "https://me:password@example.com/runs/a.json", "the password is not shown, and used"
    assert "password" not in roots.shown(below)
    assert roots.path(roots.shown(below)) == below
    for given in (
        "s3://bucket/traces-of-others/a.json",
        "s3://bucket/traces/../others/a.json",
        "s3://bucket/traces/%2e%2e/others/a.json",
        "s3://bucket/traces/%252e%252e/others/a.json",
        "s3://other/traces/a.json",
        "https://example.com.evil.org/runs/a.json",
        "https://example.com@evil.org/runs/a.json",
        "https://example.com/runs/a.json?next=https://evil.org",
        "https://example.com/runs\\..\\a.json",
        "http://example.com/runs/a.json",
        "file:///etc/passwd",
    ):
        with pytest.raises(InputError, match="not below a root"):
            roots.path(given)


def test_a_root_is_a_folder(places: Path) -> None:
    for given in ([], [str(places / "none")], [str(places / "root" / "runs" / "a.json")]):
        with pytest.raises(ConfigError):
            Roots(given)
