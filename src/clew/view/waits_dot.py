"""Who waits for whom, as a graph for Graphviz: an arrow from each task to who can end its wait."""

from __future__ import annotations

from clew.model.waits import Awaited, Snapshot, Wait
from clew.view.escape import dot

_RED = "#c0392b"


def waits_dot(found: Snapshot) -> str:
    """A digraph.  A certain deadlock is red; what something else can end is dashed."""
    stuck = {wait.task.tid for ring in found.rings if ring.certain for wait in ring.waits}
    lines = [
        "digraph waits {",
        '  rankdir=LR; node [shape=box, fontname="sans-serif"]; edge [fontname="sans-serif"];',
    ]
    for wait in found.waits:
        lines += _wait(wait, found, stuck)
    return "\n".join([*lines, "}"]) + "\n"


def _wait(wait: Wait, found: Snapshot, stuck: set[int]) -> list[str]:
    task = wait.task
    color = f', color="{_RED}", penwidth=2' if task.tid in stuck else ""
    label = f"{dot(task.comm)} {task.pid}" + f"\\nthread {task.tid}" * (task.tid != task.pid)
    lines = [f'  t{task.tid} [label="{label}\\n{dot(wait.call)}"{color}];']
    for one in wait.on:
        for ender in one.enders:
            to = ender.tid or _leader(ender.pid, found)
            lines.append(f"  t{task.tid} -> t{to} [{_arrow(one, task.tid in stuck and to in stuck)}];")
            known = found.processes.get(ender.pid)
            if known and not ender.tid:
                lines.append(
                    f'  t{to} [label="{dot(known.comm)} {ender.pid}"];' if not _shown(to, found) else ""
                )
    return [line for line in lines if line]


def _leader(pid: int, found: Snapshot) -> int:
    known = found.processes.get(pid)
    return known.tid if known else pid


def _shown(tid: int, found: Snapshot) -> bool:
    return any(wait.task.tid == tid for wait in found.waits)


def _arrow(one: Awaited, stuck: bool) -> str:
    name = f"{dot(one.wants)}\\n{dot(one.name)}"
    style = f', color="{_RED}", penwidth=2' if stuck else ", style=dashed" if one.outside else ""
    return f'label="{name}"{style}'
