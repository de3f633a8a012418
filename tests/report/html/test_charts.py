from __future__ import annotations

import re

import pytest

from gemma_trace.analysis.decode import TokenIntervals
from gemma_trace.analysis.stage_splits import Split
from gemma_trace.analysis.statistics import Distribution
from gemma_trace.report.html import charts
from gemma_trace.report.html.model import DecodeSeries, DrawnLane, Headline, Stretch
from gemma_trace.report.html.page import _own
from gemma_trace.report.html.text import stage_class
from gemma_trace.report.table import Table
from gemma_trace.stages import Stage

STYLE = _own("style.css")


@pytest.mark.parametrize(
    ("length", "ticks"),
    [
        (100, [0, 20, 40, 60, 80, 100]),
        (0.9, [0, 0.2, 0.4, 0.6, 0.8]),
        (1211, [0, 200, 400, 600, 800, 1000, 1200]),
        (0, [0]),
    ],
)
def test_ticks_are_round_and_within(length: float, ticks: list[float]) -> None:
    assert charts.round_ticks(length) == pytest.approx(ticks)


def test_the_axis_keeps_its_last_number_inside() -> None:
    found = charts.axis(1211)
    assert found[0].text == "0 ms"
    assert (found[-1].text, found[-1].anchor, found[1].anchor) == ("1,200", "end", "middle")
    assert found[-1].at_pct == pytest.approx(100 * 1200 / 1211)


def test_bars_lie_where_their_time_is() -> None:
    lane = DrawnLane(
        "device", (Stretch(0, 500_000, "prefill", 500_000), Stretch(750_000, 1_000_000, "decode", 100_000)), None, ()
    )
    first, second = charts.lane_rects(lane, 2_000_000)
    assert (first.x_pct, first.width_pct, second.x_pct, second.width_pct) == (0, 25, 37.5, 12.5)
    assert first.title == "prefill: 0.500 ms, from 0.000 to 0.500 ms"
    assert second.title == "decode: 0.100 ms between 0.750 and 1.000 ms", "not all of it is the stage's"
    assert (first.classes, second.classes) == ("s-prefill", "s-decode")


def test_a_text_is_shown_where_the_box_has_room_for_it() -> None:
    long, short = "vision_tower 180.8 ms", "vision_tower"
    found = charts.fitting((long, short), 30)
    needed = [(len(text) * charts.CHARACTER_PX + 12) / 0.3 for text in (long, short)]
    steps = [next(place for place, width in enumerate(charts.WIDTHS_PX) if width >= need) for need in needed]
    assert [text.classes for text in found] == [f"from-{steps[0]}", f"from-{steps[1]} until-{steps[0]}"]
    assert charts.fitting((long, short), 2) == (), "not even in the widest box"


def test_parts_lie_end_to_end() -> None:
    rects = charts.stacked((("prefill", 30.0), ("decode", 0.0), ("sampling", 20.0)), 100)
    assert [(rect.x_pct, rect.width_pct) for rect in rects] == [(0, 30), (30, 20)]
    split = charts.stacked_split(Split((("prefill", 3_000_000), ("decode", 1_000_000))), 8_000_000)
    assert [(rect.x_pct, rect.width_pct, rect.title) for rect in split] == [
        (0, 37.5, "prefill: 3.000 ms"),
        (37.5, 12.5, "decode: 1.000 ms"),
    ]


def test_the_strip_has_every_value_and_its_interval_inside() -> None:
    values = Distribution((10.0, 12.0, 11.0, 14.0, 13.0), "ms")
    drawn = charts.strip(Headline("TTFT", values, "timed", tuple("abcde"), None))
    assert [dot.title for dot in drawn.dots][:2] == ["a: 10.00 ms", "b: 12.00 ms"]
    assert drawn.median_pct == drawn.dots[1].at_pct == 50
    assert drawn.interval
    assert all(0 < at < 100 for at in (*drawn.interval, *(dot.at_pct for dot in drawn.dots)))
    alone = charts.strip(Headline("wall", Distribution((5.0,), "ms"), "profiled", ("x",), None))
    assert (alone.interval, alone.median_pct) == (None, 50)


def test_decoding_is_drawn_from_zero_up() -> None:
    steps = (TokenIntervals(2, 2, Distribution((2.0, 4.0), "ms")), TokenIntervals(3, 4, Distribution((1.0,), "ms")))
    drawn = charts.decode_steps(DecodeSeries("timed", 2, steps, Table("", (), ())))
    top = 4.0 * 1.05
    first, second = drawn.steps
    assert first.y_px == pytest.approx(charts.DECODE_PX * (1 - 3 / top))
    assert (second.x_pct, second.top_px) == (75, second.bottom_px)
    assert first.title == "token 2: 3.000 ms, 2.000 to 4.000 ms in 2 intervals"
    assert second.title == "tokens 3 to 4: 1.000 ms"
    assert drawn.levels[0].at_pct == 100


def test_the_style_sheet_has_the_charts_widths() -> None:
    for place, width in list(enumerate(charts.WIDTHS_PX))[1:]:
        assert f"(min-width: {width}px) {{ .from-{place} {{ display: inline; }} .until-{place} {{" in STYLE


def test_every_stage_has_a_colour_and_a_name_always_the_same() -> None:
    for name in [*(stage.value for stage in Stage), "unlinked", "text_tower", "moe", "my.stage"]:
        assert f".{stage_class(name)} {{ --stage: var(--{stage_class(name)}); }}" in STYLE
    assert stage_class("moe") == stage_class("moe") != "s-moe"


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


COLOURS = {
    name: (light, dark)
    for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", STYLE)
}
LIGHT_BARS = set(re.findall(r"text\.in\.(s-\w+)", STYLE))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_everything_can_be_read(scheme: int) -> None:
    colours = {name: pair[scheme] for name, pair in COLOURS.items()}
    for text in ("ink", "soft", "slower", "faster", "warn"):
        for under in ("paper", "sunk"):
            assert _contrast(colours[text], colours[under]) >= 4.5, (text, under)
    bars = [name for name in colours if name.startswith("s-")]
    assert len(bars) == 24
    for bar in bars:
        assert _contrast(colours[bar], colours["paper"]) >= 3, bar
        ink = "on-light-bar" if bar in LIGHT_BARS else "on-bar"
        assert _contrast(colours[ink], colours[bar]) >= 4.5, bar
