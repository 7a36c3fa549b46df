"""The command lines that open gdb and LLDB on a held task: on its thread, at its place."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clew.errors import CommandNotFound


@dataclass(frozen=True, slots=True)
class Target:
    """What a debugger is to be opened on: the hold's name (``H1``), its process, its thread."""

    name: str
    pid: int
    tid: int


PLUGIN = Path(__file__).with_name("gdb_plugin.py")


def gdb_command(target: Target, arguments: Sequence[str]) -> list[str]:
    """The command line that attaches gdb to ``target``, which was handed over; ``arguments`` are the user's.

    gdb's commands run in the order they are given: ours select the thread before the user's begin.  Raises
    CommandNotFound if there is no gdb.
    """
    return [
        _program("gdb", "apt install gdb"),
        "-q",
        "-iex",
        "set confirm off",
        "-iex",
        f"source {PLUGIN}",
        "-p",
        str(target.pid),
        "-ex",
        f"python took({target.pid}, {target.name!r})",
        "-ex",
        f"python select_thread({target.tid})",
        "-ex",
        "set confirm on",
        *arguments,
    ]


def gdb_core_command(program: bytes, core: Path, arguments: Sequence[str]) -> list[str]:
    """The command line that opens gdb on a core file of ``program``.  Raises CommandNotFound without gdb."""
    return [
        _program("gdb", "apt install gdb"),
        "-q",
        "-iex",
        "set auto-load libthread-db off",  # one thread, whose thread-local memory was not recorded
        os.fsdecode(program),
        str(core),
        *arguments,
    ]


def lldb_command(target: Target, arguments: Sequence[str]) -> list[str]:
    """As ``gdb_command``, for LLDB; when it quits, the process stays as it was found: held."""
    return [
        _program("lldb", "apt install lldb"),
        "-O",
        "settings set target.process.detach-keeps-stopped true",
        "-p",
        str(target.pid),
        *(word for line in _lldb_lines(target) for word in ("-o", line)),
        *arguments,
    ]


def _lldb_lines(target: Target) -> list[str]:
    """Select the held thread: LLDB counts threads by indices of its own, in the order of /proc/PID/task."""
    from clew.kernel import procfs

    order = [target.pid, *sorted(tid for tid in procfs.threads(target.pid) if tid != target.pid)]
    return [f"thread select {order.index(target.tid) + 1}"] if target.tid in order else []


def plugin_line() -> str:
    """What to put into ~/.gdbinit, or to type into gdb."""
    return f"source {PLUGIN}"


def clew_command() -> list[str]:
    """How to run this very clew, for a gdb that is to start it."""
    beside = Path(sys.executable).with_name("clew")
    if beside.exists():
        return [str(beside)]
    return [sys.executable, "-c", "from clew.cli.main import run; run()"]


def _program(name: str, remedy: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise CommandNotFound(f"{name} is not installed.", f"On Debian or Ubuntu: {remedy}")
    return found
