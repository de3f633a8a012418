"""What each tool is asked with. The schemas that agents see, and the checks of what they give, are made of these."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from gemma_trace.errors import ConfigError

LEAST_TOKENS: Final = 500
MOST_TOKENS: Final = 10_000
_LONGEST_PATH: Final = 4_096
_LONGEST_NAME: Final = 1_000
_LONGEST_SQL: Final = 20_000

Path = Annotated[str, Meta(min_length=1, max_length=_LONGEST_PATH, description="A trace, as summarize shows it.")]
Folder = Annotated[str, Meta(min_length=1, max_length=_LONGEST_PATH, description="A trace, or a folder of traces.")]
Stage = Annotated[str, Meta(max_length=_LONGEST_NAME, description="This stage alone, e.g. prefill.")]
Request = Annotated[int | None, Meta(description="This request alone; 0 is the first.")]


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every tool may be told of the answer."""

    detail: Annotated[Literal["brief", "full"], Meta(description="full: all columns, names as recorded.")] = "brief"
    max_tokens: Annotated[int, Meta(ge=LEAST_TOKENS, le=MOST_TOKENS, description="Of 3 bytes each.")] = 1_500
    max_rows: Annotated[int, Meta(ge=1, le=1_000)] = 20
    cursor: Annotated[str, Meta(max_length=100, description="next_cursor of the page before.")] = ""


class Summarize(Asked, frozen=True, kw_only=True):
    """What the tool `summarize` accepts."""

    path: Folder = "."
    stage: Stage = ""


class Stages(Asked, frozen=True, kw_only=True):
    """What the tool `stages` accepts."""

    path: Folder
    part: Annotated[
        Literal["stages", "reasons", "critical_path"],
        Meta(description="reasons splits each stage by cause; critical_path is the chain that made the request long."),
    ] = "stages"
    stage: Stage = ""
    request: Request = None


class Kernels(Asked, frozen=True, kw_only=True):
    """What the tool `kernels` accepts."""

    path: Path
    stage: Stage = ""
    by: Annotated[Literal["kernel", "op", "module", "layer", "family", "shape"], Meta(description="What a row is.")] = (
        "kernel"
    )
    sort: Literal["sum", "busy", "count", "mean", "median", "max", "latency", "name"] = "sum"
    request: Request = None
    device: Annotated[int | None, Meta(description="What ran on this device alone.")] = None


class Tree(Asked, frozen=True, kw_only=True):
    """What the tool `tree` accepts."""

    path: Path
    stage: Stage = ""
    depth: Annotated[int, Meta(ge=1, le=40, description="So many levels.")] = 4
    min_pct: Annotated[float, Meta(ge=0, le=100, description="Fold what takes less than this share.")] = 2.0
    request: Request = None


class Check(Asked, frozen=True, kw_only=True):
    """What the tool `check` accepts."""

    path: Path


class Diff(Asked, frozen=True, kw_only=True):
    """What the tool `diff` accepts."""

    before: Folder
    after: Folder
    part: Annotated[
        Literal["stages", "inside"], Meta(description="inside has the families, ops and kernels that changed.")
    ] = "stages"
    stage: Stage = ""
    repeats: Annotated[bool, Meta(description="All traces of a side are repeats of one configuration.")] = False


class Advise(Asked, frozen=True, kw_only=True):
    """What the tool `advise` accepts."""

    path: Path
    part: Annotated[
        Literal["findings", "abstentions"], Meta(description="abstentions: which rules couldn't look, and why.")
    ] = "findings"
    request: Request = None


Pattern = Annotated[str, Meta(max_length=_LONGEST_NAME)]


class WhatIf(Asked, frozen=True, kw_only=True):
    """What the tool `what_if` accepts."""

    path: Path
    scale: Annotated[
        dict[Pattern, float], Meta(max_length=20, description='By pattern, e.g. {"family:attention": 0.5}.')
    ] = msgspec.field(default_factory=dict)
    remove: Annotated[list[Pattern], Meta(max_length=20, description="Patterns of work that isn't there.")] = (
        msgspec.field(default_factory=list)
    )
    overlap: Annotated[list[Pattern], Meta(max_length=20, description="Patterns of work beside all else.")] = (
        msgspec.field(default_factory=list)
    )
    request: Request = None


class Sql(Asked, frozen=True, kw_only=True):
    """What the tool `sql` accepts."""

    path: Annotated[
        str, Meta(min_length=1, max_length=_LONGEST_PATH, description="A trace, a folder of traces, or a store.")
    ]
    query: Annotated[
        str, Meta(max_length=_LONGEST_SQL, description="One SELECT of DuckDB's; without it, the columns of all tables.")
    ] = ""


AskedT = TypeVar("AskedT", bound=Asked)


def asked_of(kind: type[AskedT], given: object) -> AskedT:
    """What an agent gave, checked.

    Raises:
        ConfigError: something is missing, unknown, or of another kind.
    """
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{error}; the tool's schema says what it takes") from None


def schema_of(kind: type[Asked]) -> dict[str, Any]:
    """The JSON Schema of what a tool takes: an object without references."""
    _, defined = msgspec.json.schema_components([kind])
    return {name: value for name, value in defined[kind.__name__].items() if name not in ("title", "description")}
