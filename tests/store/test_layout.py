from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.errors import UnreadableError
from gemma_trace.store.layout import MANIFESTS, Manifest, contents, is_store, live_files, part_file, small_file
from gemma_trace.store.places import Place, open_place

RUNS = [letter * 32 for letter in "abcd"]
DAY, NEXT_DAY = "2026-01-01", "2026-01-02"


def place_with(folder: Path, *names: str) -> Place:
    place = open_place(folder)
    for name in names:
        place.write(name, b"")
    return place


def live(folder: Path, table: str) -> set[str]:
    return {path.removeprefix(f"{folder}/") for path in live_files(folder, table)}


def test_a_small_file_counts_from_when_that_of_runs_is_there(tmp_path: Path) -> None:
    whole, cut = (small_file("stages", DAY, run) for run in RUNS[:2])
    place_with(tmp_path, whole, cut, small_file("runs", DAY, RUNS[0]))
    assert live(tmp_path, "stages") == {whole}
    assert live(tmp_path, "runs") == {small_file("runs", DAY, RUNS[0])}
    assert live(tmp_path, "kernels") == set()


def test_a_part_counts_from_when_its_manifest_is_there_and_its_small_files_no_more(tmp_path: Path) -> None:
    part, other = (part_file("stages", DAY, 1, mark) for mark in ("0a", "0b"))
    small = [small_file(table, DAY, run) for table in ("runs", "stages") for run in RUNS[:2]]
    place = place_with(tmp_path, part, other, *small)
    assert live(tmp_path, "stages") == {each for each in small if "stages" in each}
    manifest = Manifest(DAY, 1, (RUNS[0],), (), {"stages": (part,)})
    place.write(manifest.name, manifest.to_json())
    assert live(tmp_path, "stages") == {part, small_file("stages", DAY, RUNS[1])}


def test_the_manifest_of_the_highest_number_says_all_of_a_day(tmp_path: Path) -> None:
    place = open_place(tmp_path)
    files = [part_file("stages", DAY, number, "0a") for number in (1, 2)]
    manifests = [Manifest(DAY, 1, tuple(RUNS[:1]), (), {"stages": (files[0],)})]
    manifests.append(Manifest(DAY, 2, tuple(RUNS[:2]), (), {"stages": (files[1],)}))
    manifests.append(Manifest(NEXT_DAY, 1, tuple(RUNS[2:]), (), {}))
    for manifest in manifests:
        place.write(manifest.name, manifest.to_json())
    assert live(tmp_path, "stages") == {files[1]}
    assert contents(place).runs == set(RUNS)


def test_a_failure_counts_until_its_run_is_there(tmp_path: Path) -> None:
    failed = small_file("failures", "1970-01-01", RUNS[0])
    place = place_with(tmp_path, failed)
    assert live(tmp_path, "failures") == {failed}
    place.write(small_file("runs", DAY, RUNS[0]), b"")
    assert live(tmp_path, "failures") == set()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is no manifest of a store"),
        (b'{"day": "2026-01-01", "number": "x"}', "is no manifest of a store"),
        (b'{"day": "2026-01-01", "number": 1, "files": {"stages": ["../../../etc/passwd"]}}', "no parts"),
        (b'{"day": "2026-01-01", "number": 1, "schema_version": 2}', "newer gemma-trace"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_an_error_of_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    open_place(tmp_path).write(f"{MANIFESTS}/{DAY}.000001.json", content)
    with pytest.raises(UnreadableError, match=said) as raised:
        live_files(tmp_path, "stages")
    assert "\n" not in str(raised.value)


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    names = [
        "v1/runs/notes.txt",
        f"v1/runs/day={DAY}/{RUNS[0]}.parquet.bak",
        "v1/parts/x.json",
        "v1/runs/day=x/a.parquet",
    ]
    place_with(tmp_path, *names, small_file("runs", DAY, RUNS[1]))
    assert contents(open_place(tmp_path)).runs == {RUNS[1]}


def test_what_is_a_store(tmp_path: Path) -> None:
    assert not is_store(tmp_path)
    assert not is_store(tmp_path / "nothing")
    place_with(tmp_path, small_file("runs", DAY, RUNS[0]))
    assert is_store(tmp_path)
    assert is_store(f"file://{tmp_path}")
