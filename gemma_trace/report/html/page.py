"""`PageContent` → one HTML file: its style, its script and its data inside, and a policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any, Final

import jinja2
from markupsafe import Markup

from gemma_trace._version import __version__
from gemma_trace.analysis.changes import Change
from gemma_trace.analysis.tree import NodeKind
from gemma_trace.printable import printable_lines
from gemma_trace.report.html import charts
from gemma_trace.report.html.cells import html_table
from gemma_trace.report.html.curve import CURVE_PX, curve_of
from gemma_trace.report.html.definitions import DEFINITIONS, DIFF_DEFINITIONS
from gemma_trace.report.html.model import MOST_RUNS, PageContent, Pair
from gemma_trace.report.html.sections import kernels_note, overview_of, pair_of, run_of, window_of, work_of
from gemma_trace.report.html.tables import changed
from gemma_trace.report.html.text import bytes_text, counted, full_name, short_name, stage_class
from gemma_trace.report.number_text import (
    NO_FIGURE,
    NOISY_MARK,
    microseconds,
    milliseconds,
    percent,
    significant,
    spread,
)
from gemma_trace.report.table import Report, Table
from gemma_trace.report.tables import tree
from gemma_trace.report.tables.diff import INTERVAL, beside, is_against_one
from gemma_trace.report.units import signed

_TEMPLATES: Final = "templates"


def render_page(content: PageContent) -> bytes:
    """The page as UTF-8.

    Everything from a trace goes through jinja's escaping; the style and the script are ours and hashed into the
    page's content security policy, so nothing else on it can run or load.
    """
    curve = None if content.pairs else curve_of(content.runs)
    text = rendered(
        "page.html",
        ("curve",) if curve else (),
        curve=curve,
        CURVE_PX=CURVE_PX,
        page=content,
        shown=content.runs[:MOST_RUNS],
        left=content.runs[MOST_RUNS:],
        overview=overview_of(content.runs) if len(content.runs) > 1 and not content.pairs else None,
        beside=_beside(content.pairs),
        definitions=(*DEFINITIONS, *([DIFF_DEFINITIONS] if content.pairs else [])),
    )
    return text.encode("utf-8", "replace")


def render_report(report: Report) -> bytes:
    """The tables of a command as a page of their own, as UTF-8, in which nothing acts on a terminal."""
    text = rendered("tables.html", report=report, title=f"gemma-trace {report.command}")
    return printable_lines(text).encode()


def rendered(template: str, styles: Sequence[str] = (), scripts: Sequence[str] = (), **content: Any) -> str:
    """A page with our style and script, and the policy that lets nothing else in.

    Args:
        styles, scripts: the names of further ones, without their endings.
    """
    style, script = _joined("css", ("style", *styles)), _joined("js", ("script", *scripts))
    shell = {"style": Markup(style), "script": Markup(script), "policy": policy(style, script), "version": __version__}
    return _environment().get_template(template).render(**content, **shell)


def _interval(change: Change) -> str:
    return INTERVAL.text(INTERVAL.raw(change))


def _beside(pairs: Sequence[Pair]) -> Table[Any] | None:
    """Several runs against one baseline as one table; without what names folders."""
    diffs = [replace(pair.diff, names=(pair.before.label, pair.after.label)) for pair in pairs]
    return beside(diffs) if is_against_one(diffs) else None


def policy(style: str, script: str) -> str:
    """The content security policy of a page with this style and this script: it may load nothing at all."""
    return (
        f"default-src 'none'; style-src '{_source_hash(style)}'; script-src '{_source_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _own(name: str) -> str:
    return (resources.files(__package__) / _TEMPLATES / name).read_text("utf-8")


def _joined(ending: str, names: Sequence[str]) -> str:
    return "".join(_own(f"{name}.{ending}") for name in names)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_own),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ms": milliseconds,
        "us": microseconds,
        "sig": significant,
        "spread": spread,
        "signed": signed,
        "short": short_name,
        "full": full_name,
        "stage": stage_class,
        "size": bytes_text,
    }
    environment.globals |= {
        "NO_FIGURE": NO_FIGURE,
        "NOISY_MARK": NOISY_MARK,
        "NodeKind": NodeKind,
        "TREE": tree,
        "LANE_PX": charts.LANE_PX,
        "DECODE_PX": charts.DECODE_PX,
        "percent": percent,
        "counted": counted,
        "interval": _interval,
        "axis": charts.axis,
        "lane_rects": charts.lane_rects,
        "strip": charts.strip,
        "stacked_split": charts.stacked_split,
        "decode_steps": charts.decode_steps,
        "kernels_note": kernels_note,
        "run_of": run_of,
        "window_of": window_of,
        "work_of": work_of,
        "pair_of": pair_of,
        "html_table": html_table,
        "changed": changed,
    }
    return environment
