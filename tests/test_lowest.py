from __future__ import annotations

import tomllib

import pytest

from tests.lowest import PROJECT, lowest


def test_the_lowest_versions_are_those_that_a_requirement_names() -> None:
    given = ["numpy>=2.0", "typer>=0.15,<0.29", "dask[dataframe] >= 2024.8", 'perfetto>=0.59.1; python_version > "3"']
    assert list(lowest(given)) == ["numpy==2.0", "typer==0.15", "dask[dataframe]==2024.8", "perfetto==0.59.1"]
    with pytest.raises(ValueError, match="'rich' has no lower bound"):
        list(lowest(["rich"]))


def test_everything_that_the_package_requires_has_a_lower_bound() -> None:
    requirements = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    assert len(list(lowest(requirements))) == len(requirements) > 5
