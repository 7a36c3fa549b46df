"""Who waits for whom, as text: circles first, then a tree from each task to who can end its wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from clew.model.waits import Awaited, Ender, Ring, Snapshot, Wait, WaitKind
from clew.view.escape import visible
from clew.view.lines import Word, hang, page, wrap

_DEPTH = 8
_MOST_ENDERS = 4
_KINDS = {WaitKind.UNIX: "unix socket", WaitKind.TCP: "TCP", WaitKind.UDP: "UDP"}


def waits_text(found: Snapshot, everything: bool, width: int, color: bool, ascii: bool) -> str:
    """The page.  ``everything`` False leaves out tasks that wait for new work or time, and counts them."""
    lines: list[Text] = []
    for ring in found.rings:
        lines += [*_ring(ring, found, width), Text()]
    tree = _Tree(found, width)
    shown = [wait for wait in found.waits if everything or found.asked or _worth_showing(wait)]
    lines += tree.lines(_asked_first(found, shown))
    lines += _counts(found, len(found.waits) - len(shown), width)
    return page(lines or [Text("No task waits for another one.")], color, ascii)


def _worth_showing(wait: Wait) -> bool:
    """Whether what it waits for is somebody, and not the next job, a person or time."""
    return not any(one.outside for one in wait.on) or any(
        one.kind in (WaitKind.STOPPED, WaitKind.TRACER, WaitKind.LOCK) for one in wait.on
    )


def _asked_first(found: Snapshot, waits: Sequence[Wait]) -> list[Wait]:
    """Roots of the tree: of the processes asked about; else those whose wait nobody else's depends on."""
    if found.asked:
        return [wait for wait in waits if wait.task.pid in found.asked]
    awaited = {ender.pid for wait in waits for one in wait.on for ender in one.enders if len(wait.on) == 1}
    first = [wait for wait in waits if wait.task.pid not in awaited]
    return first + [wait for wait in waits if wait.task.pid in awaited]


def _ring(ring: Ring, found: Snapshot, width: int) -> list[Text]:
    head = "Deadlock" if ring.certain else "Waiting in a circle"
    what = (
        "nobody who could end it is free to do so"
        if ring.certain
        else "somebody else could still end it, or was not seen"
    )
    lines = [Text.assemble((head, "bold red" if ring.certain else "bold yellow"), f": {what}.")]
    for at, (wait, one) in enumerate(zip(ring.waits, ring.through, strict=True)):
        following = ring.waits[(at + 1) % len(ring.waits)]
        ender = next((e for e in one.enders if following.task.tid == e.tid), None) or next(
            e for e in one.enders if e.pid == following.task.pid
        )
        words: list[Word] = [
            (_who(wait), "bold"),
            *_plain(f"waits for {_what(one)};"),
            (_who(following), "bold"),
        ]
        lines += hang(Text("  "), wrap([*words, *_plain(f"{ender.how}.")], width - 2, cut=False))
    return lines


def _who(wait: Wait) -> str:
    task = wait.task
    thread = f" thread {task.tid}" if task.tid != task.pid else ""
    return f"{visible(task.comm)} {task.pid}{thread}"


def _what(one: Awaited) -> str:
    """What it waits for, as it goes after "waits for"."""
    name = visible(one.name)
    joins = {"data": "on", "a connection": "on", "room": "in", "input": "from", "a wake-up": "on"}
    known = f"{_KINDS.get(one.kind, '')} {name}".strip()
    return f"{one.wants} {joins.get(one.wants, 'of')} {known}" if known else one.wants


def _plain(text: str) -> list[Word]:
    return [(word, "") for word in text.split()]


class _Tree:
    """Lines from a task down to who can end its wait; each task is shown once."""

    def __init__(self, found: Snapshot, width: int) -> None:
        self._found, self._width = found, width
        self._by_pid: dict[int, list[Wait]] = {}
        for wait in found.waits:
            self._by_pid.setdefault(wait.task.pid, []).append(wait)
        self._shown: set[int] = set()

    def lines(self, waits: Iterable[Wait]) -> list[Text]:
        """The tree below each of these that is not shown yet."""
        lines: list[Text] = []
        for wait in waits:
            if wait.task.tid not in self._shown:
                lines += self._task(wait, 0)
        return lines

    def _task(self, wait: Wait, depth: int) -> Iterator[Text]:
        alike = self._alike(wait)
        self._shown.update(each.task.tid for each in alike)
        more = f" and {len(alike) - 1} threads more" if len(alike) > 1 else ""
        call = f"in {wait.call}" if wait.call else ""
        words: list[Word] = [
            (_who(wait) + more, "bold"),
            (call, "cyan"),
            *_plain(f"({wait.note})" if wait.note else ""),
        ]
        yield from self._indented(depth, [word for word in words if word[0]])
        for one in wait.on:
            yield from self._awaited(one, depth + 1)

    def _alike(self, wait: Wait) -> list[Wait]:
        """Threads of the process that wait in the same way, and for nobody in particular."""
        if any(one.kind is WaitKind.LOCK for one in wait.on):
            return [wait]
        return [
            other
            for other in self._by_pid[wait.task.pid]
            if other is wait or (_shape(other) == _shape(wait) and other.task.tid not in self._shown)
        ]

    def _awaited(self, one: Awaited, depth: int) -> Iterator[Text]:
        why = f" ({one.why})" if one.outside and one.why and not one.enders else ""
        evidence = f" [{one.evidence}]" if one.evidence else ""
        yield from self._indented(depth, _plain(f"for {_what(one)}{visible(why)}{evidence}"))
        for ender in one.enders[:_MOST_ENDERS]:
            yield from self._ender(ender, depth + 1)
        if len(one.enders) > _MOST_ENDERS:
            yield from self._indented(
                depth + 1, _plain(f"and {len(one.enders) - _MOST_ENDERS} more processes")
            )

    def _ender(self, ender: Ender, depth: int) -> Iterator[Text]:
        waits = self._by_pid.get(ender.pid, [])
        if ender.tid:
            waits = [wait for wait in waits if wait.task.tid == ender.tid]
        task = self._found.processes.get(ender.pid)
        name = f"{visible(task.comm) if task else '?'} {ender.pid}" + f" thread {ender.tid}" * bool(ender.tid)
        fresh = [wait for wait in waits if wait.task.tid not in self._shown]
        state = "" if waits else ", which runs" if task else ", which is gone"
        again = ", shown already" if waits and not fresh else ""
        yield from self._indented(depth, _plain(f"{name} {ender.how}{state}{again}"))
        if depth < _DEPTH:
            for wait in fresh:
                if wait.task.tid not in self._shown:
                    yield from self._task(wait, depth + 1)

    def _indented(self, depth: int, words: Sequence[Word]) -> list[Text]:
        label = Text("  " * depth)
        return hang(label, wrap(words, max(self._width - label.cell_len, 30), cut=False))


def _shape(wait: Wait) -> tuple[object, ...]:
    return (wait.call, *((one.kind, one.wants, one.outside) for one in wait.on))


def _counts(found: Snapshot, left_out: int, width: int) -> list[Text]:
    lines: list[Text] = []
    if left_out:
        kinds = Counter(wait.call or "an unknown call" for wait in found.waits if not _worth_showing(wait))
        said = ", ".join(f"{visible(call)} {count}" for call, count in kinds.most_common(5))
        text = (
            f"{left_out} tasks wait for new work, time or a person and are not shown ({said}…). "
            "--all shows them."
        )
        lines += [Text(), *wrap(_plain(text), width, cut=False)]
    if found.hidden:
        text = (
            f"{found.hidden} processes of other users were not looked into: run clew as root to see them too."
        )
        lines += wrap(_plain(text), width, cut=False)
    return lines
