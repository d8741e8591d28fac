"""A picture of bars, as SVG.

Knows: shapes and text. Must not know: what is compared.

Written by hand since four panels of bars do not need a library of fifty megabytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _MARGIN, _GAP = 960, 24, 32
_PANEL = (_WIDTH - 2 * _MARGIN - _GAP) // 2
_HEAD, _BAR, _STEP = 66, 15, 24
_NAME, _VALUE = 196, 64  # what names and figures take of a panel's width
_OURS, _OTHERS, _TEXT, _FAINT, _LINES = "#0b62c4", "#9aa5b1", "#1c2530", "#5c6873", "#dde3e8"


@dataclass(frozen=True)
class Bar:
    """One of them. Without a value it has no length, and its text says why."""

    name: str
    value: float | None
    text: str
    ours: bool = False


@dataclass(frozen=True)
class Panel:
    title: str
    below: str
    bars: Sequence[Bar]

    @property
    def height(self) -> int:
        return _HEAD + _STEP * len(self.bars)


def draw(panels: Sequence[Panel]) -> str:
    """The panels in two columns. Lengths are logarithmic: between the least and the most lie factors of a hundred."""
    pairs = [panels[at : at + 2] for at in range(0, len(panels), 2)]
    parts, top = [], _MARGIN
    for pair in pairs:
        for place, panel in enumerate(pair):
            parts.append(_panel(panel, _MARGIN + place * (_PANEL + _GAP), top))
        top += max(panel.height for panel in pair) + _GAP
    height = top - _GAP + _MARGIN
    font = 'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" {font} font-size="13">'
    titles = "; ".join(panel.title for panel in panels)
    ground = f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, f"<title>{escape(titles)}</title>", ground, *parts, "</svg>"]) + "\n"


def _panel(panel: Panel, left: int, top: int) -> str:
    parts = [
        _text(left, top + 16, panel.title, _TEXT, 'font-weight="600" font-size="15"'),
        _text(left, top + 36, panel.below, _FAINT, 'font-size="12"'),
    ]
    values = [bar.value for bar in panel.bars if bar.value is not None]
    parts += _scale(values, left + _NAME, top + _HEAD, _STEP * len(panel.bars))
    for place, bar in enumerate(panel.bars):
        parts += _bar(bar, left, top + _HEAD + place * _STEP, values)
    return "\n".join(parts)


def _bar(bar: Bar, left: int, top: int, values: Sequence[float]) -> list[str]:
    weight = 'font-weight="600"' if bar.ours else ""
    base = left + _NAME
    length = 0.0 if bar.value is None else (_PANEL - _NAME - _VALUE) * _share(bar.value, values)
    colour = _OURS if bar.ours else _OTHERS
    drawn = f'<rect x="{base}" y="{top}" width="{max(length, 1):.1f}" height="{_BAR}" rx="2" fill="{colour}"/>'
    return [
        _text(base - 8, top + 12, bar.name, _TEXT, f'text-anchor="end" {weight}'),
        drawn if bar.value is not None else "",
        _text(base + int(length) + 7, top + 12, bar.text, _TEXT if bar.value is not None else _FAINT, weight),
    ]


def _scale(values: Sequence[float], base: int, top: int, height: int) -> list[str]:
    """A line at every power of ten: a bar that is twice as long is not twice as much."""
    positive = [one for one in values if one > 0]
    if not positive:
        return []
    parts = []
    for power in range(math.ceil(math.log10(min(positive))), math.floor(math.log10(max(positive))) + 1):
        across = base + (_PANEL - _NAME - _VALUE) * _share(10.0**power, values)
        parts += [
            f'<path d="M{across:.1f} {top - 5}v{height}" stroke="{_LINES}"/>',
            _text(int(across), top - 9, f"{10.0**power:g}", _FAINT, 'text-anchor="middle" font-size="11"'),
        ]
    return parts


def _share(value: float, values: Sequence[float]) -> float:
    """Of the longest bar: logarithmic, in steps as large as the least that is more than nothing; nothing stays that."""
    least = min((one for one in values if one > 0), default=1.0)
    return math.log1p(value / least) / math.log1p(max(*values, least) / least)


def _text(left: int, top: int, words: str, colour: str, more: str) -> str:
    return f'<text x="{left}" y="{top}" fill="{colour}" {more}>{escape(words)}</text>'
