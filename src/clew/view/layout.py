"""Where everything of the picture goes: lanes × time, in one pass over the rows.

Columns have one width, rows the height of what they hold, and between two rows there is a little more
the longer the time: the order of things is exact, their distances are compressed (the axis tells the
milliseconds).  Every text has a region of its own, so nothing overlaps.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import sqrt

from clew.model.flow import Activation, Flow, Hop, HopKind
from clew.model.task import TaskId
from clew.view import words
from clew.view.escape import visible
from clew.view.fold import Run, by_tasks, fold
from clew.view.lanes import Lane, Plan, Process, plan
from clew.view.measure import fit, width
from clew.view.options import Options
from clew.view.rows import Row, rows
from clew.view.select import drawn
from clew.view.shapes import Arrow, Bar, Box, Frame, LaneLine, Picture, Said

LEFT, TOP, RIGHT = 78.0, 74.0, 14.0
HEAD = 42.0  # a process's title and its lanes' names
BAR = 12.0
BOX = 24.0
LINE = 14.0  # from one baseline to the next
SIZE, SMALL = 12.0, 10.5
_PAGE = 1200.0
_COLUMN = (168.0, 280.0)
_CALM = 120  # rows; in a longer picture each is told in one line
_STRETCH = 46.0  # what the longest of waits adds to a row
_FRAMES = 3


def picture(flow: Flow, options: Options) -> Picture:
    """The chart of the path and its replies, or of the whole flow."""
    hops = drawn(flow, options.whole)
    runs = [Run((hop,)) for hop in hops] if options.verbose else list(fold(hops, by_tasks))
    table = rows(flow, runs)
    return _Drawing(flow, options, table, plan(table)).draw()


class _Drawing:
    """One pass down the rows that turns each into shapes."""

    def __init__(self, flow: Flow, options: Options, table: Sequence[Row], lanes: Plan) -> None:
        self.flow, self.options, self.rows, self.plan = flow, options, table, lanes
        self.calm = len(table) <= _CALM
        room = (_PAGE - LEFT - RIGHT) / max(lanes.columns, 1)
        self.column = min(max(room, _COLUMN[0]), _COLUMN[1])
        self.gap = self.column - BAR - 14
        self.out = Picture(width=LEFT + RIGHT + max(lanes.columns, 2) * self.column)
        self.ys: list[float] = []
        self.path = set(flow.path)
        self.on_path = {
            a
            for hop in words.hops_of(flow, flow.path)
            for a in (hop.source_activation, hop.target_activation)
        }
        self.activations = {activation.id: activation for activation in flow.activations}
        self.touched: dict[int, tuple[float, float]] = {}
        self.execs: dict[int, list[float]] = {}
        self.left: dict[int, tuple[float, tuple[str, ...]]] = {}

    def draw(self) -> Picture:
        """Rows first, which gives every moment its height; then what spans several of them."""
        births = self._births()
        y = TOP
        for number, row in enumerate(self.rows):
            y = self._row(number, row, y, births[number])
        self.out.bottom = y + 10
        self._bars()
        self._frames(births)
        return self.out

    def x(self, task: TaskId) -> float:
        """The middle of a task's lane."""
        return LEFT + (self.plan.lanes[task].column + 0.5) * self.column

    def _births(self) -> list[float]:
        """How much each row needs above it for the titles of what begins there."""
        needed = [0.0] * len(self.rows)
        for process in self.plan.processes:
            needed[process.first] = HEAD
            for lane in process.lanes:
                if self.plan.packed and lane.first > process.first:
                    needed[lane.first] = max(needed[lane.first], LINE + 4)
        return needed

    def _row(self, number: int, row: Row, y: float, birth: float) -> float:
        y = self._wait(number, row, y) + birth
        above, below = self._extent(row)
        y += above
        self.ys.append(y)
        if row.folded:
            self._fold(row.folded, y)
        elif row.leaves or row.opens:
            self.out.times.append(Said(LEFT - 12, y, words.milliseconds(row.t_ns)))
        self._shapes(row, y)
        return y + below

    def _wait(self, number: int, row: Row, y: float) -> float:
        """The compressed time since the row before, told where it is long."""
        if not number:
            return y
        passed = row.t_ns - self.rows[number - 1].t_ns
        total = max(self.rows[-1].t_ns - self.rows[0].t_ns, 1)
        extra = _STRETCH * sqrt(passed / total) if self.calm else 12 * sqrt(passed / total)
        if extra > 15:
            self.out.waits.append(Said(LEFT - 12, y + extra / 2 + 2, _passed(passed)))
        return y + extra

    def _extent(self, row: Row) -> tuple[float, float]:
        """Height above and below the row's line."""
        if row.folded:
            return 10.0, 8.0
        if not self.calm:
            return (LINE, 6.0) if row.leaves else (6.0, 4.0)
        above = 8.0 + LINE * len(_label(row.leaves)) if row.leaves and not _stays(row.leaves) else 8.0
        if row.leaves and _stays(row.leaves):
            return above, 2 * LINE + BOX
        below = 8.0 + LINE * len(self._places(row.leaves, self.gap)) if row.leaves else 8.0
        return above, max(below, BOX + 14 if row.opens else 12.0)

    def _shapes(self, row: Row, y: float) -> None:
        if row.opens:
            self._box_of(row.opens, y)
        if row.leaves and _stays(row.leaves):
            self._touch(row.leaves.source_activation, y)
            self._exec(row.leaves, y)
            return
        if row.leaves:
            self._touch(row.leaves.source_activation, y)
            self.left[row.leaves.n] = y, _label(row.leaves)
        if row.arrives:
            self._touch(row.arrives.target_activation, y)
            self._arrow(row.arrives, y, bool(row.opens))

    def _touch(self, activation: int, y: float) -> None:
        top, bottom = self.touched.get(activation, (y, y))
        self.touched[activation] = min(top, y), max(bottom, y)

    def _arrow(self, hop: Hop, y2: float, boxed: bool) -> None:
        y1, label = self.left.pop(hop.n, (y2, ()))
        x1, x2 = self.x(hop.source.id), self.x(hop.target.id)
        way = 1 if x2 > x1 else -1
        fitted = self._fitted(label)
        room = self.gap - 4
        if boxed and y1 == y2 and abs(x2 - x1) < self.column * 1.5:
            room -= self._box_width(self._ran(hop)) / 2 - BAR / 2
        frames = self._places(hop, room) if self.calm else ()
        middle = x1 + way * self.column / 2
        on_path = hop.n in self.path
        css = "label mid over " + ("strong" if self.calm else "small")
        self.out.arrows.append(
            Arrow(hop, x1, y1, x2 - way * BAR / 2, y2, fitted, css, middle, frames, on_path)
        )

    def _fitted(self, label: tuple[str, ...]) -> tuple[str, ...]:
        """The label's lines in the room between two lanes; its last one, by what, loses a word if it must."""
        if not self.calm:
            return tuple(fit(line, self.gap - 22, SMALL) for line in label[-1:])
        room = self.gap - 4
        by = label[-1:] if not label or width(label[-1], SIZE, bold=True) <= room else (_terse(label[-1]),)
        return tuple(fit(line, room, SMALL) for line in label[:-1]) + tuple(
            fit(b, room, SIZE, bold=True) for b in by
        )

    def _places(self, hop: Hop, room: float) -> tuple[str, ...]:
        """The deepest frames that say something where the hop was made, innermost first.

        A line each on the path; elsewhere one line, with the caller behind it where there is room.
        """
        picked = self.options.pick(hop.stack_from)
        named = [frame for frame in picked if frame.function] or list(picked[:1])
        places = [words.place(frame) for frame in named[:_FRAMES]]
        if hop.n not in self.path:
            both = " ‹ ".join(places[:2])
            places = [both] if width(both, SMALL, mono=True) <= room else places[:1]
        return tuple(fit(place, room, SMALL, mono=True) for place in places if place)

    def _ran(self, hop: Hop) -> Activation | None:
        return self.activations.get(hop.target_activation)

    def _box_width(self, activation: Activation | None) -> float:
        return 0.0 if activation is None else min(width(self._name(activation), SIZE) + 18, self.column - 44)

    def _name(self, activation: Activation) -> str:
        root = self.flow.activations and activation is self.flow.activations[0]
        return words.title(self.flow) if root else visible(activation.label) or words.who(activation.task)

    def _box_of(self, activation: Activation, y: float) -> None:
        if not self.calm:
            return
        size = self._box_width(activation)
        name = fit(self._name(activation), size - 14, SIZE)
        on_path = activation.id in self.on_path
        box = Box(self.x(activation.task.id) - size / 2, y + 6, size, BOX, (name,), on_path, activation)
        self.out.boxes.append(box)
        self._touch(activation.id, y + BOX + 8)

    def _exec(self, hop: Hop, y: float) -> None:
        room = self.column - 24
        what = words.how(hop) + (
            " " + words.program(hop.exe or hop.target.exe) if hop.kind is HopKind.EXEC else ""
        )
        lines = [fit(what, room - 46, SIZE, bold=True)]
        if self.calm and hop.argv:
            lines += _two_lines(words.arguments(hop.argv, hop.argv_truncated), room - 16)
        height = (BOX if self.calm else LINE + 2) + LINE * (len(lines) - 1)
        top = y - 6 if self.calm else y - 10
        x = self.x(hop.source.id) - room / 2
        self.out.boxes.append(Box(x, top, room, height, tuple(lines), hop.n in self.path, hop=hop))
        self._touch(hop.source_activation, top + height)
        if hop.kind is HopKind.EXEC:
            self.execs.setdefault(hop.source_activation, []).append(top + height / 2)

    def _fold(self, run: Run, y: float) -> None:
        xs = [self.x(party.id) for hop in run.shown for party in (hop.source, hop.target)]
        alike = "like it" if len(run.shown) == 1 else f"rounds like these {len(run.shown)}"
        text = f"… {run.repeats:,} more {alike}, to {run.more[-1].n}"
        self.out.folds.append(Said((min(xs) + max(xs)) / 2, y, text))
        for hop in run.more:
            self._touch(hop.source_activation, y)
            self._touch(hop.target_activation, y)

    def _y_at(self, t_ns: int) -> float:
        """The height of any moment: between two rows in proportion."""
        after = bisect_right(self.rows, t_ns, key=lambda row: row.t_ns)
        if after == 0:
            return self.ys[0]
        if after == len(self.rows):
            return self.out.bottom - 6
        t1, t2 = self.rows[after - 1].t_ns, self.rows[after].t_ns
        y1, y2 = self.ys[after - 1], self.ys[after]
        return y1 + (y2 - y1) * (t_ns - t1) / (t2 - t1)

    def _bars(self) -> None:
        for activation in self.flow.activations:
            if activation.id not in self.touched:
                continue
            top, bottom = self.touched[activation.id]
            lane = self.plan.lanes[activation.task.id]
            limit = self._lane_end(lane)
            end = max(min(max(self._y_at(activation.end_ns), bottom + 5), limit), bottom)
            x, on_path = self.x(activation.task.id), activation.id in self.on_path
            cuts = [top, *self.execs.get(activation.id, ()), end]
            for number, (start, stop) in enumerate(pairwise(cuts)):
                self.out.bars.append(Bar(x, start, stop, activation, on_path, number > 0))

    def _lane_end(self, lane: Lane) -> float:
        if not self.plan.packed:
            return self.out.bottom - 6
        return self.ys[lane.last] + (12 if self.calm else 4)

    def _frames(self, births: Sequence[float]) -> None:
        for process in self.plan.processes:
            first = self.rows[process.first]
            top = self.ys[process.first] - self._extent(first)[0] - HEAD + 2
            bottom = (
                self.out.bottom if not self.plan.packed else self.ys[process.last] + (16 if self.calm else 5)
            )
            x, size = LEFT + process.column * self.column + 6, process.columns * self.column - 12
            number, title = str(process.pid), self._images(process)
            beside = width(title, SIZE, bold=True) + width(number, SMALL) + 26 < size
            margin = 24 if beside else 2 * width(number, SMALL) + 40
            lanes = tuple(self._lane_line(process, lane, top, margin) for lane in process.lanes)
            fitted = fit(title, size - 18, SIZE, bold=True)
            self.out.frames.append(Frame(x, top, size, bottom - top, fitted, number, beside, lanes))

    def _images(self, process: Process) -> str:
        """The programs it ran, one after the other."""
        names = list(dict.fromkeys(words.program(exe) or "?" for exe in process.images))
        shown = names if len(names) < 4 else [names[0], "…", names[-1]]
        return " → ".join(shown)

    def _lane_line(self, process: Process, lane: Lane, top: float, margin: float) -> LaneLine:
        late = self.plan.packed and lane.first > process.first
        begin = self.ys[lane.first]
        title_y = begin - self._extent(self.rows[lane.first])[0] - 4 if late else top + 31
        party = lane.party
        named_alike = party.comm == party.exe.rsplit(b"/", 1)[-1][: len(party.comm)]
        first = "main thread" if named_alike else visible(party.comm)
        title = first if party.tid == party.pid else f"{visible(party.comm)}  {party.tid}"
        start = title_y + 6 if lane.first == process.first or late else begin
        return LaneLine(
            self.x(party.id), start, self._lane_end(lane), fit(title, self.column - margin, SMALL), title_y
        )


def _label(hop: Hop) -> tuple[str, ...]:
    """The lines above an arrow: what to beware of, the channel's name, by what and how much."""
    by = words.how(hop) + (f", {words.count(hop.bytes, 'byte')}" if hop.bytes is not None else "")
    name = visible(hop.channel.name) if hop.channel else ""
    passed = f"with {words.count(hop.passed_fds, 'file descriptor')}" * bool(hop.passed_fds)
    return tuple(filter(None, ("events lost near here" * hop.near_gap, name, passed, by)))


def _passed(ns: int) -> str:
    """``+0.412``, ``+2336.0``: it stands between two exact times, and must fit beside them."""
    return f"+{words.milliseconds(ns)}" if ns < 10_000_000 else f"+{ns / 1e6:.1f}"


def _terse(by: str) -> str:
    """``unix socket, 10 bytes`` as ``unix, 10 bytes``."""
    return by.replace(" socket", "", 1)


def _stays(hop: Hop) -> bool:
    """Whether it ends in the task it began in (an exec): a box and no arrow."""
    return hop.source.id == hop.target.id


def _two_lines(text: str, room: float) -> Iterator[str]:
    """As much of ``text`` as two lines hold, broken at a blank or after a comma."""
    most = int(room / width("x", SMALL, mono=True))
    if len(text) <= most:
        yield text
        return
    cut = max(text.rfind(" ", 0, most + 1), text.rfind(",", 0, most) + 1)
    cut = cut if cut > most // 3 else most
    yield fit(text[:cut], room, SMALL, mono=True)
    rest = text[cut:].strip()
    yield rest if width(rest, SMALL, mono=True) <= room else _head(rest, room)


def _head(text: str, room: float) -> str:
    return text[: max(int(room / width("x", SMALL, mono=True)) - 1, 1)].rstrip() + "…"
