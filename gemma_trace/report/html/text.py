"""Names and numbers as the page shows them."""

from __future__ import annotations

import re
import zlib
from typing import Final

from gemma_trace import wording
from gemma_trace.report.number_text import significant
from gemma_trace.report.short_names import folded
from gemma_trace.stages import Stage

_FOLDERS: Final = re.compile(r"(?<![\w.*…-])(?:~|[A-Za-z]:)?(?:[/\\][\w.@+ -]+){2,}(?=[/\\][\w.@+-]+\.\w+)")
_LONGEST: Final = 2000
_HANDLER_NAME: Final = re.compile(r"^.+_(\d+\.\d{10,})(?=\.|$)")
_STAMP: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)[\d:.]*(?:Z|\+00:00)")
_EXTRA_COLOURS: Final = 5
_KNOWN: Final = frozenset({*(stage.value for stage in Stage), "unlinked", "text_tower"})


def full_name(name: str) -> str:
    """A name as it was recorded, but for the folders of files in it, which may name a person.

    >>> full_name("/home/ada/lib/model.py(12): forward")
    '…/model.py(12): forward'
    >>> full_name("transformers/models/clip/model.py(12): forward")
    'transformers/models/clip/model.py(12): forward'
    """
    cut = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}… ({len(name) - _LONGEST:,} characters more)"
    return _FOLDERS.sub("…", cut)


def short_name(name: str) -> str:
    """A kernel's name as people can read it, without the folders of files in it.

    >>> short_name("<no function of C++ begins like this>")
    '<no function of C++ begins like this>'
    """
    full = full_name(name)
    return full if full.startswith("<") else folded(full)


def stage_class(stage: str) -> str:
    """The class that has a stage's colour; stages that a user named share a few colours, always the same for a name."""
    if stage in _KNOWN:
        return f"s-{stage}"
    return f"s-extra{zlib.crc32(stage.encode()) % _EXTRA_COLOURS}"


def bytes_text(count: int) -> str:
    """Bytes in binary units, as memory is sold.

    >>> bytes_text(25276502016)
    '23.5 GiB'
    """
    if count >= 1 << 30:
        return f"{count / (1 << 30):.1f} GiB"
    return f"{count / (1 << 20):.1f} MiB" if count >= 1 << 20 else f"{count / (1 << 10):.1f} KiB"


def counted(count: float, what: str) -> str:
    """A count with its noun.

    >>> counted(1, "request"), counted(1200, "span")
    ('1 request', '1,200 spans')
    """
    return wording.counted(int(count), what) if count == int(count) else f"{significant(count)} {what}s"


def public_label(label: str) -> str:
    """A run's name without the host's, which torch.profiler's own handler puts into a file's.

    >>> public_label("gpu-box-7_4711.1700000000123")
    'worker_4711.1700000000123'
    """
    return _HANDLER_NAME.sub(r"worker_\1", label)


def utc_text(stamp: str) -> str:
    """A time stamp to the minute; as it is if it is none.

    >>> utc_text("2026-11-24T02:55:10+00:00")
    '2026-11-24 02:55 UTC'
    """
    match = _STAMP.fullmatch(stamp)
    return f"{match[1]} {match[2]} UTC" if match else stamp
