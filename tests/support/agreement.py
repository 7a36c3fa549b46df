"""Whether both engines tell the same of one program: their JSON, but for numbers and times.

    python -m tests.support.agreement BPF.json PTRACE.json    prints what differs; status 1 if anything does

Two runs of a program are compared, and a run decides some things that no engine does: which of several alike
tasks gets a job, who sleeps first, in how many pieces bytes arrive.  So tasks are known by the place in the
code that they were started from, and hops that are alike in everything are one hop, with the bytes of all.
How many there were is what the program testifies (``tests.support.comparison``).

``PERMITTED`` is the whole list of what may differ; ``tests.support.engines_page`` puts it into the docs.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = Mapping[str, Any]
Shape = tuple[tuple[str, str], ...]
"""A hop's members that are compared, each as it is printed."""

_NUMBERS_AND_TIMES = frozenset(
    {"n", "t_ms", "arrived_ms", "bytes", "activation_from", "activation_to", "alternatives", "hop"}
)
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Permitted:
    """What is not compared: of hops of ``kind`` (``*``: any) the member, or (``*``) such hops as a whole."""

    kind: str
    member: str
    what: str
    because: str


_OUTSIDE = Permitted(
    "*",
    "*",
    "hops to or from a task that the command did not start",
    "`ptrace` sees the command's tree only",
)
PERMITTED = (
    _OUTSIDE,
    Permitted(
        "wake",
        "*",
        "hops of kind `wake`",
        "`ptrace` tells a wake-up only where the waker's and the woken's calls leave one answer, and of no "
        "sleep but a futex's. Whether a task slept at all when it was woken is decided by the run",
    ),
    Permitted(
        "exit",
        "reply",
        "`reply` of hops of kind `exit`",
        "It says whether the parent slept in wait4(2) when the child ended, which is decided by the run",
    ),
    Permitted(
        "signal",
        "stack_to",
        "the frames in `stack_to` of hops of kind `signal`",
        "Where a signal finds its task is decided by the run. That a backtrace was taken is compared",
    ),
    Permitted(
        "*",
        "stack beyond main",
        "frames that called `main`",
        "`bpf` copies what is in memory and waits for no page: a backtrace ends at one that is not, of a "
        "large array that was never written, say. Here, only what lies beyond `main` may be such",
    ),
)


def disagreements(bpf: Json, ptrace: Json) -> list[str]:
    """What one engine tells and the other does not, a sentence each; empty if they agree."""
    first, second = Told.of(bpf), Told.of(ptrace)
    plain = [
        f"{name}: {first.plain[name]} with bpf, {second.plain[name]} with ptrace"
        for name in first.plain
        if first.plain[name] != second.plain[name]
    ]
    return [*plain, *_of_hops(first.hops, second.hops)]


@dataclass(frozen=True, slots=True)
class Told:
    """A flow as it is compared: the members of the object, and each sort of hop with its bytes."""

    plain: dict[str, str]
    hops: Counter[Shape]

    @classmethod
    def of(cls, flow: Json) -> Told:
        """From the object that ``--json`` prints."""
        names = _Names(flow)
        plain = {name: str(flow[name]) for name in ("exit_status", "until")}
        plain["notes"] = str([_DIGITS.sub("N", note) for note in flow["notes"]])
        plain["root"] = str(names.shown(flow["root"]))
        plain["reached"] = str(sorted(str(names.shown(each)) for each in flow["reached"]))
        hops: Counter[Shape] = Counter()
        channels: dict[str, set[str]] = defaultdict(set)
        for hop in flow["hops"]:
            if not (_forgiven(hop["kind"], "*") or names.outside(hop)):
                shape = _shape(hop, names)
                hops[shape] += hop["bytes"] or 0
                if hop["channel"]:
                    channels[hop["channel"]["id"]].add(_title(shape))
        plain["channels"] = str(sorted({str(sorted(used)) for used in channels.values()}))
        return cls(plain, hops)


class _Names:
    """Tasks by the places in the code that they and their ancestors were started from."""

    def __init__(self, flow: Json) -> None:
        self._names = {_key(flow["root"]): "root"}
        for hop in flow["hops"]:
            if hop["kind"] == "spawn":
                start = _own_place(hop["stack_from"], hop["from"]["exe"])
                self._names[_key(hop["to"])] = f"{self.of(hop['from'])}/{start}"

    def outside(self, hop: Json) -> bool:
        """Whether an end of the hop is a task that the command did not start."""
        return "outside" in (self.of(hop["from"]), self.of(hop["to"]))

    def of(self, task: Json) -> str:
        return self._names.get(_key(task), "outside")

    def shown(self, value: Any, member: str = "") -> Any:
        """``value`` without its numbers and times, tasks by their names."""
        if isinstance(value, dict) and "tid" in value:
            rest = {name: value[name] for name in value if name not in ("pid", "tid", "id")}
            return " ".join([self.of(value), *(str(self.shown(each, name)) for name, each in rest.items())])
        if isinstance(value, dict) and "offset" in value:
            # The same line may be compiled in several places: which one runs is up to the run.
            return {**value, "offset": 0 if value["line"] else value["offset"]}
        if isinstance(value, dict):
            kept = (name for name in value if name not in _NUMBERS_AND_TIMES | {"id"})
            return {name: self.shown(value[name], name) for name in kept}
        if isinstance(value, list):
            if member in ("stack_from", "stack_to"):
                value = _up_to_main(value)
            return [self.shown(each, member) for each in value]
        # Addresses, ports, descriptors and process ids that a program put into a name.
        return _DIGITS.sub("N", value) if member in ("name", "argv") and isinstance(value, str) else value


def _key(task: Json) -> tuple[int, int]:
    return task["pid"], task["tid"]


def _own_place(stack: list[Json], exe: str) -> str:
    """Where in its program's own code a task was: ``called:7<main:31``."""
    own = [frame for frame in stack if frame["module"] == exe and frame["line"]] or stack
    return "<".join(f"{frame['function']}:{frame['line']}" for frame in own)


def _up_to_main(stack: list[Json]) -> list[Json]:
    functions = [frame["function"] for frame in stack]
    return stack[: functions.index("main") + 1] if "main" in functions else stack


def _forgiven(kind: str, member: str) -> bool:
    return any((each.kind, each.member) == (kind, member) for each in PERMITTED)


def _shape(hop: Json, names: _Names) -> Shape:
    members = (name for name in hop if name not in _NUMBERS_AND_TIMES)
    return tuple((name, _compared(hop, name, names)) for name in members)


def _compared(hop: Json, member: str, names: _Names) -> str:
    value = hop[member]
    if not _forgiven(hop["kind"], member):
        return str(names.shown(value, member))
    return str(bool(value)) if isinstance(value, list) else ""


def _of_hops(first: Counter[Shape], second: Counter[Shape]) -> Iterator[str]:
    for shape in first.keys() & second.keys():
        if first[shape] != second[shape]:
            yield f"{_title(shape)}: {first[shape]} bytes with bpf, {second[shape]} with ptrace"
    only_first, only_second = sorted(first.keys() - second.keys()), sorted(second.keys() - first.keys())
    for shape in only_first:
        like = min(only_second, key=lambda other: len(_differing(shape, other)), default=None)
        if like and len(_differing(shape, like)) <= 2:
            only_second.remove(like)
            yield f"{_title(shape)}: " + "; ".join(_sentences(shape, like))
        else:
            yield f"{_title(shape)}: with bpf only: {dict(shape)}"
    yield from (f"{_title(shape)}: with ptrace only: {dict(shape)}" for shape in only_second)


def _differing(one: Shape, other: Shape) -> list[str]:
    mine, others = dict(one), dict(other)
    return [name for name in mine.keys() | others.keys() if mine.get(name) != others.get(name)]


def _sentences(one: Shape, other: Shape) -> Iterable[str]:
    mine, others = dict(one), dict(other)
    return (f"{n}: {mine.get(n)} with bpf, {others.get(n)} with ptrace" for n in _differing(one, other))


def _title(shape: Shape) -> str:
    told = dict(shape)
    return f"{told['kind']} {told['from']} > {told['to']} {told['channel']}"


def main(paths: list[str]) -> int:
    """Compare two files.  Returns the exit status."""
    bpf, ptrace = (json.loads(Path(path).read_text()) for path in paths)
    found = disagreements(bpf, ptrace)
    print(*found, sep="\n", end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
