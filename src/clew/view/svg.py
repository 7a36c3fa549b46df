"""The flow as a chart in SVG: one file that needs nothing else, and runs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from math import hypot

from clew.model.flow import Flow, Hop, HopKind, Tier
from clew.model.frame import Backtrace
from clew.view import words
from clew.view.escape import visible, xml
from clew.view.layout import BAR, LEFT, LINE, picture
from clew.view.measure import fit, width
from clew.view.options import Options
from clew.view.shapes import Arrow, Bar, Box, Frame, Picture, Said
from clew.view.svg_legend import legend
from clew.view.svg_style import style

_NARROWEST = 620.0
_DISC = 9.0
_HEAD = 9.0
_TOOLTIP_FRAMES = 24


def render(flow: Flow, options: Options) -> str:
    """The path and its replies, or with ``whole`` the flow; runs of alike hops folded unless ``verbose``.

    Up to six tasks fit on 1200 pixels.  Light or dark as the reader's system is.
    """
    chart = picture(flow, options)
    size = max(chart.width, _NARROWEST)
    key, below = legend(chart, size, chart.bottom + 30)
    notes = list(_notes(flow, below + 8, size))
    height = below + 8 + LINE * 1.3 * len(notes)
    body = [*_title(flow, size), *map(_frame, chart.frames), *_guides(chart), *map(_lanes, chart.frames)]
    # Slanting arrows cross other rows: they are drawn first, under the boxes and words there.
    slanting = [arrow for arrow in chart.arrows if arrow.y1 != arrow.y2]
    level = [arrow for arrow in chart.arrows if arrow.y1 == arrow.y2]
    body += [*map(_bar, chart.bars), *map(_arrow, slanting)]
    body += [*map(_box, chart.boxes), *map(_arrow, level), *map(_fold, chart.folds)]
    return "\n".join([*_head(flow, size, height), *body, *key, *notes, "</svg>"]) + "\n"


def _head(flow: Flow, size: float, height: float) -> Iterator[str]:
    box = f'viewBox="0 0 {size:.0f} {height:.0f}" width="{size:.0f}" height="{height:.0f}"'
    name = xml(f"What {fit(words.title(flow), 400, 12)} caused")
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-label="{name}">'
    yield f"<desc>{xml(_described(flow))}</desc>"
    yield f"<style>{style()}</style>"
    yield '<rect class="ground" width="100%" height="100%"/>'


def _described(flow: Flow) -> str:
    """The path in words, for who cannot see the picture."""
    steps = [f"{hop.n}. {words.who(hop.source)} to {words.who(hop.target)} by {words.by_what(hop)}"
             for hop in words.hops_of(flow, flow.path[:40])]  # fmt: skip
    return "; ".join([words.outcome(flow), *steps, words.losses(flow)])


def _title(flow: Flow, size: float) -> Iterator[str]:
    yield _text(20, 33, fit(words.title(flow), size - 40, 19, bold=True), "big")
    alarm = "alarm" if flow.until and not flow.reached else "pale"
    yield _text(20, 54, fit(words.outcome(flow), size - 40, 12), alarm)


def _guides(chart: Picture) -> Iterator[str]:
    if chart.frames:
        yield _text(LEFT - 12, chart.frames[0].y + 17, "ms", "time pale end")
    for time in chart.times:
        yield f'<line class="guide" x1="{LEFT - 6:.0f}" x2="{chart.width - 14:.1f}" {_level(time.y)}/>'
        yield _text(time.x, time.y + 4, time.text, "time end")
    for wait in chart.waits:
        yield _text(wait.x, wait.y + 4, wait.text, "small pale end")


def _frame(frame: Frame) -> str:
    area = _area(frame.x, frame.y, frame.width, frame.height)
    title = _text(frame.x + 9, frame.y + 17, frame.title, "strong")
    at, line = (frame.width - 9, 17) if frame.beside else (9, 31)
    number = _text(frame.x + at, frame.y + line, frame.number, f"small pale{_if(frame.beside, 'end')}")
    return f'<rect class="frame" rx="9" {area}/>{title}{number}'


def _lanes(frame: Frame) -> str:
    return "".join(
        f'<line class="life" x1="{lane.x:.1f}" x2="{lane.x:.1f}" y1="{lane.top:.1f}" y2="{lane.bottom:.1f}"/>'
        + _text(lane.x, lane.title_y, lane.title, "small pale mid over")
        for lane in frame.lanes
    )


def _bar(bar: Bar) -> str:
    run = bar.activation
    when = f"{words.milliseconds(run.start_ns)} to {words.milliseconds(run.end_ns)} ms"
    what = f"{words.who(run.task)} {words.ids(run.task)}: {visible(run.label)}, {when}"
    area = _area(bar.x - BAR / 2, bar.top, BAR, max(bar.bottom - bar.top, 4))
    css = f"bar{_if(bar.on_path, 'path')}{_if(bar.after_exec, 'exec')}"
    return f'<rect class="{css}" rx="3" {area}>{_tooltip(what)}</rect>'


def _box(box: Box) -> str:
    """An activation's name, or an exec with its number and the beginning of its arguments."""
    kind = " exec" if box.hop else _if(box.on_path, "path")
    tip = _hop_told(box.hop) if box.hop else visible(box.activation.label) if box.activation else ""
    shape = f'<rect class="box{kind}" rx="6" {_area(box.x, box.y, box.width, box.height)}/>'
    middle, first = box.x + box.width / 2, box.y + (16.5 if box.height > 20 else 12.5)
    lines = [_text(middle, first, box.lines[0], "strong mid" if box.hop else "mid")] if box.lines else []
    for number, line in enumerate(box.lines[1:], 1):
        lines.append(_text(middle, first + LINE * number, line, "mono pale mid"))
    disc = _disc(box.hop, box.x, first - 4.5) if box.hop else ""
    return f'<g class="{"path" if box.on_path else "off"}">{_tooltip(tip)}{shape}{"".join(lines)}{disc}</g>'


def _arrow(arrow: Arrow) -> str:
    hop, way = arrow.hop, 1 if arrow.rightwards else -1
    kind = "path" if arrow.on_path else "reply" if hop.reply else "plain"
    line = (
        f'<line x1="{arrow.x1:.1f}" y1="{arrow.y1:.1f}" x2="{arrow.x2 - way * 5:.1f}" y2="{arrow.y2:.1f}"/>'
    )
    texts = [_text(arrow.label_x, y, label, css) for label, y, css in _above(arrow)]
    beginning = arrow.x1 + way * (BAR / 2 + 5)
    for number, frame in enumerate(arrow.frames):
        css = f"mono over{_if(number > 0 or not arrow.on_path, 'pale')}{_if(way < 0, 'end')}"
        texts.append(_text(beginning, arrow.y1 + LINE * (number + 1) + 1, frame, css))
    css = f"arrow {kind}{_if(hop.tier is Tier.AMBIGUOUS, 'ambiguous')}"
    shapes = line + _point(arrow, kind) + "".join(texts) + _disc(hop, arrow.x1, arrow.y1)
    return f'<g class="{css}">{_tooltip(_hop_told(hop))}{shapes}</g>'


def _above(arrow: Arrow) -> Iterator[tuple[str, float, str]]:
    """The label's lines from the arrow upwards: how and how much, then the channel's name."""
    base = arrow.y1 - 6
    for number, label in enumerate(reversed(arrow.label)):
        yield label, base - LINE * number, arrow.label_css if not number else "small pale mid over"


def _point(arrow: Arrow, kind: str) -> str:
    dx, dy = arrow.x2 - arrow.x1, arrow.y2 - arrow.y1
    length = hypot(dx, dy) or 1.0
    ux, uy = dx / length * _HEAD, dy / length * _HEAD
    backx, backy = arrow.x2 - ux, arrow.y2 - uy
    corners = ((arrow.x2, arrow.y2), (backx - uy / 2, backy + ux / 2), (backx + uy / 2, backy - ux / 2))
    return f'<polygon class="head {kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in corners)}"/>'


def _disc(hop: Hop, x: float, y: float) -> str:
    """The hop's number, the same as in every other view."""
    half = max(_DISC, width(str(hop.n), 10.5, bold=True) / 2 + 5)
    shape = f'<rect class="disc" rx="{_DISC:.0f}" {_area(x - half, y - _DISC, 2 * half, 2 * _DISC)}/>'
    return shape + _text(x, y + 3.8, str(hop.n), "small strong mid number")


def _fold(said: Said) -> str:
    return _text(said.x, said.y + 4, said.text, "small pale mid over")


def _notes(flow: Flow, top: float, size: float) -> Iterator[str]:
    """What every view must say: how the command ended, what was lost, what to beware of."""
    y = top
    lost = "alarm" if words.any_lost(flow) else "pale"
    said = [(f"{words.ended(flow)}; {words.losses(flow)}", lost), *((note, "brand") for note in flow.notes)]
    for note, css in said:
        line = fit(visible(note), size - 40, 10.5)
        yield f"<g>{_tooltip(visible(note))}{_text(20, y, line, f'small {css}')}</g>"
        y += LINE * 1.3


def _hop_told(hop: Hop) -> str:
    """A tooltip: everything about a hop, with both backtraces."""
    source, target = (f"{words.who(party)} {words.ids(party)}" for party in (hop.source, hop.target))
    by = f"{words.by_what(hop)}, {words.milliseconds(hop.t_ns)} ms"
    lines = [f"{hop.n}. {source} → {target}", by, *words.caveats(hop)]
    if hop.kind is HopKind.EXEC:
        lines.append(fit(words.arguments(hop.argv, hop.argv_truncated), 12_000, 12))
    for label, stack in (("from", hop.stack_from), ("to", hop.stack_to)):
        lines += _stack_told(label, stack)
    return "\n".join(lines)


def _stack_told(label: str, stack: Backtrace) -> Iterator[str]:
    if stack:
        yield f"{label}:"
    for number, frame in enumerate(stack[:_TOOLTIP_FRAMES]):
        yield f"  #{number} {words.full(frame)}"
    if len(stack) > _TOOLTIP_FRAMES:
        yield f"  … {len(stack) - _TOOLTIP_FRAMES} more"


def _tooltip(told: str) -> str:
    """Our own line ends stay; each line is escaped by itself."""
    return f"<title>{'&#10;'.join(map(xml, told.splitlines()))}</title>"


def _text(x: float, y: float, text: str, css: str) -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}">{xml(text)}</text>' if text else ""


def _area(x: float, y: float, across: float, down: float) -> str:
    return f'x="{x:.1f}" y="{y:.1f}" width="{across:.1f}" height="{down:.1f}"'


def _level(y: float) -> str:
    return f'y1="{y:.1f}" y2="{y:.1f}"'


def _if(condition: bool, css: str) -> str:
    return " " + css if condition else ""
