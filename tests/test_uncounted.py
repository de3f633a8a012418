"""Which tests are left out of the coverage, and that they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.uncounted import adding_nothing, branches_by_test, seconds_by_test

coverage = pytest.importorskip("coverage", reason="needs pytest-cov")


def test_a_slow_test_is_left_out_where_quicker_ones_reach_the_same() -> None:
    branches = {
        "": {(1, 1, 2)},
        "quick": {(1, 2, 3)},
        "slow": {(1, 2, 3), *((1, line, line + 1) for line in range(10, 40))},
        "slower": {(1, 2, 3), *((1, line, line + 1) for line in range(10, 40))},
        "little": {(3, 1, 2)},
        "alone": {(1, 3, 5), *((2, line, line + 1) for line in range(30))},
        "repeats": {(1, 1, 2), (1, 2, 3)},
    }
    seconds = {"quick": 0.01, "slow": 1.0, "slower": 2.0, "alone": 3.0, "repeats": 0.5, "little": 0.2}
    assert adding_nothing(branches, seconds) == ["little", "repeats", "slower"]


def test_what_was_measured_is_read_by_test(tmp_path: Path) -> None:
    data = coverage.CoverageData(str(tmp_path / "measured"))
    data.set_context("tests/a/test_b.py::test_c[d]|run")
    data.add_arcs({"x.py": [(1, 2), (2, 3)]})
    data.set_context("tests/a/test_b.py::test_c[d]|setup")
    data.add_arcs({"x.py": [(7, 8)]})
    data.set_context("")
    data.add_arcs({"y.py": [(1, 2)]})
    data.close()
    found = branches_by_test(tmp_path / "measured")
    assert {test: {branch[1:] for branch in reached} for test, reached in found.items()} == {
        "tests/a/test_b.py::test_c[d]": {(1, 2), (2, 3), (7, 8)},
        "": {(1, 2)},
    }
    report = tmp_path / "tests.xml"
    case = '<testcase classname="tests.a.test_b{}" name="test_c[d]" time="1.5" />'
    report.write_text(f"<a><b>{case.format('')}{case.format('.TestE')}</b></a>")
    assert seconds_by_test(report) == {"tests/a/test_b.py::test_c[d]": 1.5, "tests/a/test_b.py::TestE::test_c[d]": 1.5}
