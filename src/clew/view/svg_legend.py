"""What the strokes and boxes of the chart mean: only those that are in it."""

from __future__ import annotations

from collections.abc import Iterator

from clew.model.flow import Tier
from clew.view.measure import width
from clew.view.shapes import Picture

_STEP = 22.0
_SAMPLE = 34.0


def legend(chart: Picture, size: float, top: float) -> tuple[list[str], float]:
    """The legend's elements from ``top`` down, wrapped at ``size``, and where what follows may begin."""
    x, y, drawn = 20.0, top, []
    for sample, text in _entries(chart):
        wide = _SAMPLE + 8 + width(text, 10.5) + 22
        if x + wide > size and x > 20:
            x, y = 20.0, y + _STEP
        drawn.append(
            f'<g transform="translate({x:.0f} {y:.0f})">{sample}'
            f'<text class="small pale" x="{_SAMPLE + 8:.0f}" y="3.5">{text}</text></g>'
        )
        x += wide
    return drawn, y + _STEP


def _entries(chart: Picture) -> Iterator[tuple[str, str]]:
    arrows = chart.arrows
    if any(arrow.on_path for arrow in arrows):
        yield _stroke("path", "path"), "on the path"
    if any(arrow.hop.reply and not arrow.on_path for arrow in arrows):
        yield _stroke("reply", "reply"), "a reply"
    if any(not arrow.hop.reply and not arrow.on_path for arrow in arrows):
        yield _stroke("plain", ""), "off the path" if any(a.on_path for a in arrows) else "a hop"
    if any(arrow.hop.tier is Tier.AMBIGUOUS for arrow in arrows):
        yield _stroke("ambiguous", ""), "ambiguous: may belong to other work (hover for the reason)"
    if any(box.activation for box in chart.boxes):
        yield _sample("box"), "a stretch of work, named by what it ran"
    if any(box.hop for box in chart.boxes):
        yield _sample("box exec"), "exec: the task runs another program"
    if chart.waits:
        yield '<text class="small pale" x="6" y="3.5">+12.3</text>', "a wait, not to scale"


def _stroke(kind: str, head: str) -> str:
    point = f'<polygon class="head {head}" points="{_SAMPLE:.0f},0 25,4.5 25,-4.5"/>'
    return f'<g class="arrow {kind}"><line x1="0" y1="0" x2="28" y2="0"/>{point}</g>'


def _sample(css: str) -> str:
    return f'<rect class="{css}" rx="4" x="0" y="-7" width="{_SAMPLE:.0f}" height="14"/>'
