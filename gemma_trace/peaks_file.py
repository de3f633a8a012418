"""A user's own peak rates, as a TOML file: what `--peaks` reads and `gemma-trace doctor --measure` writes.

[[device]]
name = "AMD EPYC 9654 96-Core Processor"    # as the trace names it; a list of names; or "*" for any device
memory_gb_per_s = 460.8
cache_mb = 384
source = "data sheet"
[device.tflops]
float32 = 7.4
bfloat16 = 14.7
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from gemma_trace.analysis.roofline.tensors import ITEM_BYTES
from gemma_trace.errors import InputError
from gemma_trace.foreign import converted, read_toml, text
from gemma_trace.peaks import Peaks

DTYPES: Final = (*ITEM_BYTES, "tf32")
"""What a rate can be of."""

_MOST: Final = 1e12
"""No device computes or moves more in any of the units."""

_Rate = Annotated[float, msgspec.Meta(ge=1e-9, le=_MOST)]
_Size = Annotated[float, msgspec.Meta(ge=0, le=_MOST)]
_Entries = Annotated[list[Any], msgspec.Meta(min_length=1)]
_Table = dict[str, Any]
_Rates = Annotated[_Table, msgspec.Meta(min_length=1)]
_Names = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]

_KEYS: Final = frozenset({"name", "memory_gb_per_s", "cache_mb", "source", "tflops"})


def read_peaks(path: Path) -> list[Peaks]:
    """The devices of a file.

    Raises:
        InputError: it can't be read as TOML, or an entry isn't one; the message is one line that says which.
    """
    without = InputError(f"{path} has no [[device]]; gemma-trace doctor --measure prints such a file")
    entries = converted(read_toml(path, "--peaks").get("device"), _Entries, without)
    return [_entry(entry, f"{path}, device {place + 1}") for place, entry in enumerate(entries)]


def peaks_toml(peaks: Peaks) -> str:
    """The file of one device."""
    lines = [
        "[[device]]",
        f"name = {_text(peaks.names[0])}",
        f"memory_gb_per_s = {peaks.memory_gb_per_s:.4g}",
        f"cache_mb = {peaks.cache_mb:.4g}",
        f"source = {_text(peaks.source)}",
        "[device.tflops]",
        *(f"{dtype} = {rate:.4g}" for dtype, rate in peaks.tflops),
    ]
    return "\n".join(lines) + "\n"


def _entry(entry: Any, where: str) -> Peaks:
    entry = converted(entry, _Table, InputError(f"{where} is not a table; write [[device]] and its lines"))
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        raise InputError(f"{where} has a line {unknown[0]!r}; it may have {', '.join(sorted(_KEYS))}")
    without_name = f'{where} has no name; write name = "…" as the trace names the device, or "*" for any'
    names = converted(entry.get("name"), str | _Names, InputError(without_name))
    without_rates = f"{where} has no rates; write [device.tflops] and lines such as float32 = 1.2"
    rates = converted(entry.get("tflops"), _Rates, InputError(without_rates))
    for dtype in rates:
        if dtype not in DTYPES:
            raise InputError(f"{where} has a rate of {dtype!r}; rates are of {', '.join(DTYPES)}")
    no_text = f'{where} has a source that is not text; write source = "…", e.g. the data sheet that has the rates'
    return Peaks(
        names=(names,) if isinstance(names, str) else names,
        memory_gb_per_s=_number(entry, "memory_gb_per_s", where),
        cache_mb=_number({"cache_mb": 0, **entry}, "cache_mb", where, _Size),
        tflops=tuple((dtype, _number(rates, dtype, where)) for dtype in rates),
        source=converted(entry.get("source", "a file of the user's"), str, InputError(no_text)),
    )


def _number(values: dict[str, Any], key: str, where: str, kind: Any = _Rate) -> float:
    given = values.get(key)
    shown = repr(given[:40]) if isinstance(given, str) else text(given)[:40] or "missing"
    unfit = InputError(f"{where}: {key} is {shown}; give a number above 0, up to {_MOST:g}")
    return float(converted(given, kind, unfit))


def _text(value: str) -> str:
    """A string as TOML writes it."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
