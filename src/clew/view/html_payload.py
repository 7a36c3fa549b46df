"""What the HTML page holds, in columns, with every text, frame and stack once: many hops stay small."""

from __future__ import annotations

from collections import Counter
from typing import Any

from clew.model.flow import Activation, Flow, Hop, HopKind, Tier
from clew.model.frame import Backtrace, Frame
from clew.model.rules.hop import is_plumbing
from clew.model.task import Party, TaskId
from clew.view import words
from clew.view.escape import command, shell, visible
from clew.view.options import Options

# As in html/data.js.
_ON_PATH, _REPLY, _NEAR_GAP, _NOT_SURE = 1, 2, 4, 8


def payload(flow: Flow, options: Options) -> dict[str, Any]:
    """The object that html/data.js (``Payload``) describes.  All of its text is ``visible``."""
    made = _Payload(options, flow.origin)
    hops = [made.hop(hop) for hop in flow.hops]
    stacks: dict[int, list[Hop]] = {}
    for hop in flow.hops:
        stacks.setdefault(hop.source_activation, []).append(hop)
    began = {hop.n: hop for hop in flow.hops}
    acts = [made.activation(act, stacks.get(act.id, []), began) for act in flow.activations]
    return {
        "title": words.title(flow),
        "outcome": words.outcome(flow),
        "ended": words.ended(flow),
        "losses": words.losses(flow),
        "lost": words.any_lost(flow),
        "notes": [visible(note) for note in flow.notes],
        "kinds": [kind.value for kind in HopKind],
        "path": list(flow.path),
        "hops": _columns(_HOP_COLUMNS, hops),
        "acts": _columns(_ACT_COLUMNS, acts),
        "triggers": [list(act.triggers) for act in flow.activations],
        "tasks": made.tasks,
        "processes": made.processes,
        "stacks": made.stacks,
        "frames": made.frames,
        "sources": made.sources,
        "strings": list(made.strings),
    }


_KINDS = {kind: at for at, kind in enumerate(HopKind)}
_HOP_COLUMNS = (
    "n", "kind", "from", "to", "act_from", "act_to", "t", "arrived", "by", "how", "detail", "call_from",
    "call_to", "evidence", "caveats", "hold", "core", "stack_from", "stack_to", "flags",
)  # fmt: skip
_ACT_COLUMNS = ("id", "task", "start", "end", "label", "on_path")


def _columns(names: tuple[str, ...], rows: list[tuple[int, ...]]) -> dict[str, list[int]]:
    columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


class _Payload:
    """Tables that grow: each thing is entered once and known by its index."""

    def __init__(self, options: Options, origin: str) -> None:
        self._options, self._origin = options, origin
        self.strings: dict[str, int] = {"": 0}
        self.tasks: list[tuple[int, int, int, int]] = []
        self.processes: list[tuple[int, int]] = []
        self.stacks: list[list[int]] = []
        self.frames: list[tuple[int, int, int, int]] = []
        self.sources: list[tuple[int, int, list[str]]] = []
        self._tasks: dict[TaskId, int] = {}
        self._processes: dict[int, int] = {}
        self._images: list[list[str]] = []
        self._stacks: dict[Backtrace, int] = {}
        self._frames: dict[tuple[Frame, bool], int] = {}

    def text(self, text: str) -> int:
        return self.strings.setdefault(text, len(self.strings))

    def hop(self, hop: Hop) -> tuple[int, ...]:
        flags = (
            _ON_PATH * hop.on_path
            | _REPLY * hop.reply
            | _NEAR_GAP * hop.near_gap
            | _NOT_SURE * (hop.tier is Tier.AMBIGUOUS)
        )
        trace = self._options.trace
        return (
            hop.n, _KINDS[hop.kind], self._task(hop.source), self._task(hop.target),
            hop.source_activation, hop.target_activation, hop.t_ns, max(hop.arrived_ns, hop.t_ns),
            self.text(_by(hop)), self.text(words.how(hop)), self.text(_detail(hop)),
            self.text(visible(hop.syscall_from)), self.text(visible(hop.syscall_to)),
            self.text(hop.tier.value),
            self.text("\n".join(words.caveats(hop))),
            self.text(words.hold_command(trace, hop, self._origin) if trace else ""),
            self.text(command(["clew", "gdb", f"{trace}#{hop.n}"]) if trace and not self._origin else ""),
            self._stack(hop.stack_from), self._stack(hop.stack_to), flags,
        )  # fmt: skip

    def activation(self, act: Activation, leaving: list[Hop], hops: dict[int, Hop]) -> tuple[int, ...]:
        label = _label(act, leaving, hops, self._options) or act.label
        return (
            act.id,
            self._task(act.task),
            act.start_ns,
            act.end_ns,
            self.text(visible(label)),
            act.on_path,
        )

    def _task(self, party: Party) -> int:
        process = self._process(party)
        at = self._tasks.get(party.id)
        if at is None:
            at = self._tasks[party.id] = len(self.tasks)
            self.tasks.append((process, party.tid, self.text(words.who(party)), self.text(words.ids(party))))
        return at

    def _process(self, party: Party) -> int:
        at = self._processes.get(party.pid)
        if at is None:
            at = self._processes[party.pid] = len(self.processes)
            self.processes.append((party.pid, 0))
            self._images.append([])
        image = words.program(party.exe) or visible(party.comm)
        if image not in self._images[at]:
            self._images[at].append(image)
            # What it ran, one after the other: the first and the last of them.
            ran = self._images[at]
            name = ran[0] if len(ran) == 1 else f"{ran[0]} {'→' if len(ran) == 2 else '→ … →'} {ran[-1]}"
            self.processes[at] = (party.pid, self.text(name))
        return at

    def _stack(self, stack: Backtrace) -> int:
        if not stack:
            return -1
        at = self._stacks.get(stack)
        if at is None:
            kept = set(self._options.pick(stack))
            at = self._stacks[stack] = len(self.stacks)
            self.stacks.append([self._frame(frame, frame in kept) for frame in stack])
        return at

    def _frame(self, frame: Frame, kept: bool) -> int:
        at = self._frames.get((frame, kept))
        if at is None:
            at = self._frames[frame, kept] = len(self.frames)
            place = words.place(frame) + (f"  {line}" if (line := words.source_line(frame)) else "")
            source = self._source(frame) if kept else -1
            self.frames.append((self.text(place), self.text(words.full(frame)), source, int(kept)))
        return at

    def _source(self, frame: Frame) -> int:
        lines = self._options.source(frame.file, frame.line) if frame.file and frame.line > 0 else None
        if not lines:
            return -1
        first, text = lines
        self.sources.append((first, frame.line, [visible(line.expandtabs(4)) for line in text]))
        return len(self.sources) - 1


def _by(hop: Hop) -> str:
    return f"exec {shell(hop.exe or hop.target.exe)}" if hop.kind is HopKind.EXEC else words.by_what(hop)


def _detail(hop: Hop) -> str:
    """An exec's arguments, and whose rights it began with."""
    if hop.kind is not HopKind.EXEC:
        return ""
    return " ".join(filter(None, (words.arguments(hop.argv, hop.argv_truncated), words.rights(hop))))


def _label(act: Activation, leaving: list[Hop], hops: dict[int, Hop], options: Options) -> str:
    """The function that all of the work was done in, of those that are new against what caused it.

    A child that was forked deep in a call has all of its parent's frames: those say nothing of the child.
    """
    caused = hops.get(act.triggers[0]) if act.triggers else None
    known = {frame.function for frame in caused.stack_from} if caused else set()
    seen: Counter[str] = Counter()
    inner: dict[str, int] = {}
    for stack in {hop.stack_from for hop in leaving}:
        picked = [f.function for f in options.pick(stack) if f.function and not is_plumbing(f)]
        for depth, function in enumerate(picked):
            if function not in known:
                seen[function] += 1
                inner[function] = min(depth, inner.get(function, depth))
    return max(seen, key=lambda function: (seen[function], -inner[function]), default="")
