"""``docs/kernels.md``: which part of clew works on which kernel, as the machines reported it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from kernels.guest.follows import LOST
from kernels.results import Result, Results

_HOLDS = ("exec", "fork", "call", "at", "syscall", "signal", "exit", "crash")
_ROWS: tuple[tuple[str, str], ...] = (
    ("record and follow", "ground truth bpf"),
    ("backtraces", "stacks"),
    *((f"hold: `{name}`" if name != "crash" else "hold: a crash", f"bpf {name}") for name in _HOLDS),
    ("300 execs, one in ten held", "storm"),
    ("`kill -9` with 20 held", "killed"),
    ("the miniature", "minivirt bpf"),
    ("libvirt, from `virsh start` to qemu", "libvirt"),
)
_PTRACE_ROWS: tuple[tuple[str, str], ...] = (
    ("record and follow", "ground truth ptrace"),
    *((f"hold: `{name}`" if name != "crash" else "hold: a crash", f"ptrace {name}") for name in _HOLDS),
    ("the miniature", "minivirt ptrace"),
)
_HEAD = """# Kernels

Which part of clew works on which kernel. `./x kernels --write` made this page: it boots each kernel with
the release of Debian that ships it, in a virtual machine, and tries everything there
([how](../kernels/README.md)). Other kernels were not tried; `clew doctor` tries the one it runs on.

A word in a cell of a hold is how exact the stop was ([holding](hold.md)). A number refers to the reasons
below; what the kernel lacks is found by looking for it, not by the kernel's version. The machines are
emulated on one processor: what a slow recorder lost there is told in its cell.
"""


def page(all_found: Iterable[Results]) -> str:
    """The page."""
    found = sorted(all_found, key=lambda one: [int(part) for part in re.findall(r"\d+", one.kernel)[:3]])
    reasons: dict[str, int] = {}

    def cell(result: Result | None) -> str:
        if result is None:
            return "not tried"
        if result.ok:
            exact = result.check.partition(" ")[2] in _HOLDS
            lost = "; ".join(result.said.split(LOST)[1:])
            return result.said if exact else f"ok, without {lost}" if lost else "ok"
        why = result.lacks or "**fails**: " + result.said.strip().splitlines()[-1]
        return f"no ({reasons.setdefault(why, len(reasons) + 1)})"

    parts = [_HEAD, "\n## The bpf engine\n", _table(found, _ROWS, cell)]
    parts += ["\n## The ptrace engine\n", _table(found, _PTRACE_ROWS, cell)]
    parts += ["\n## What compiled the probes\n", _compilers(found)]
    parts += ["\n## Reasons\n", *(f"{number}. {why}" for why, number in reasons.items())] if reasons else []
    return "\n".join(parts).rstrip() + "\n"


def _table(
    found: list[Results], rows: Iterable[tuple[str, str]], cell: Callable[[Result | None], str]
) -> str:
    lines = [
        _row(("", *(f"{_version(one)}<br>{one.release}" for one in found))),
        _row(["---"] * (len(found) + 1)),
    ]
    lines += [_row((name, *(cell(one.of(check)) for one in found))) for name, check in rows]
    return "\n".join(lines)


def _compilers(found: list[Results]) -> str:
    """Every object by every compiler: how many programs loaded."""
    names = sorted({name for one in found for name in one.expected if name.startswith("load ")})
    lines = [_row(("", *map(_version, found))), _row(["---"] * (len(found) + 1))]
    for name in names:
        cells = [_loaded(one.of(name)) for one in found]
        lines.append(_row((name.removeprefix("load ").replace("-", " "), *cells)))
    return "\n".join(lines)


def _loaded(result: Result | None) -> str:
    if result is None:
        return "not tried"
    return result.said.partition(";")[0] + " load" if result.ok else "**refused**"


def _version(one: Results) -> str:
    """``6.1.0-50-cloud-amd64`` as it is; of a kernel somebody built, the numbers alone."""
    return one.kernel if "amd64" in one.kernel else ".".join(re.findall(r"\d+", one.kernel)[:2])


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
