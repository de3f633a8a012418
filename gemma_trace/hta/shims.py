"""What HolisticTraceAnalysis 0.5.0 needs to run beside pandas 3 and numpy 2.4, in the process that is its own.

Each is put on only where it is needed, told by trying. Its successor, traceinsight 0.6.1, needs none.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from importlib.abc import SourceLoader
from typing import Any, Final

import numpy as np
import pandas as pd

_PATHS: Final = "hta.analyzers.critical_path_analysis"
_CHAINED: Final = re.compile(r"\b(\w+)\.(\w+)\.fillna\(([\w.-]+), inplace=True\)")


def put_on() -> None:
    """Put on what is needed; before HTA is imported."""
    frame: Any = pd.DataFrame({"a": [0], "b": [0]})
    try:
        frame.drop(axis=1, columns=["b"])
    except ValueError:
        _let_drop_take_both()
    objects: Any = np.array([[0, 1]], dtype=object)
    try:
        np.unique(objects, axis=0)
    except TypeError:
        _let_unique_take_objects()
    _fill_columns_in_place()


def _let_drop_take_both() -> None:
    """Columns are dropped by name though an axis is given too, as pandas did before 3."""
    drop: Any = pd.DataFrame.drop

    def tolerant(self: Any, *args: Any, **options: Any) -> Any:
        if "columns" in options or "index" in options:
            options.pop("axis", None)
        return drop(self, *args, **options)

    setattr(pd.DataFrame, "drop", tolerant)  # noqa: B010  to mypy a method is no attribute


def _let_unique_take_objects() -> None:
    """Rows of objects are made unique too, as numpy did before 2.4; their order doesn't matter to HTA."""
    unique: Any = np.unique

    def tolerant(values: Any, *args: Any, **options: Any) -> Any:
        if isinstance(values, np.ndarray) and values.dtype == object and options.get("axis") == 0:
            return np.array(sorted(set(map(tuple, values))), dtype=object)
        return unique(values, *args, **options)

    setattr(np, "unique", tolerant)  # noqa: B010


def _fill_columns_in_place() -> None:
    """Filling a column of a frame in place fills it, as before pandas 3, which fills a copy and says nothing.

    HTA's critical path loses its waits for events by that, so the module is compiled from mended source.
    """
    spec = importlib.util.find_spec(_PATHS)
    if spec is None or not isinstance(spec.loader, SourceLoader):
        return
    source = spec.loader.get_source(_PATHS) or ""
    mended, count = _CHAINED.subn(r'\1["\2"] = \1["\2"].fillna(\3)', source)
    if count:
        module = sys.modules[_PATHS] = importlib.util.module_from_spec(spec)
        exec(compile(mended, spec.origin or _PATHS, "exec"), module.__dict__)
