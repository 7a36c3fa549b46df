"""``clew waits``: who waits for whom now: each blocked task, on what, and who can end it.

Nothing is recorded, attached or stopped: it reads /proc, and works on programs that hang already.  Deadlocks
are found and said first.  Without a PID, tasks that wait for new work, time or a person are left out.
"""

from __future__ import annotations

import argparse
import os
import sys

from clew.errors import PermissionMissing, TaskGone, UsageError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``waits`` to the command line."""
    parser = subparsers.add_parser("waits", help="who waits for whom now", description=__doc__)
    parser.add_argument(
        "pids", nargs="*", metavar="PID", help="this process, and whom it waits for, and so on"
    )
    parser.add_argument("--all", action="store_true", help="every blocked task, idle ones too")
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")
    parser.add_argument("--dot", action="store_true", help="a graph for Graphviz")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print it; 0 if some task waits for another one, 1 if none does."""
    from clew.waits.look import look

    found = look(_pids(args.pids))
    if args.json:
        from clew.view.waits_json import waits_json

        sys.stdout.write(waits_json(found))
    elif args.dot:
        from clew.view.waits_dot import waits_dot

        sys.stdout.write(waits_dot(found))
    else:
        from clew.view.options import stream_ascii, stream_color, stream_width
        from clew.view.waits_text import waits_text

        out = sys.stdout
        options = (stream_width(out), stream_color(out, os.environ), stream_ascii(out))
        out.write(waits_text(found, args.all, *options))
    return 0 if found.waits else 1


def _pids(words: list[str]) -> tuple[int, ...]:
    """The processes named.  UsageError, TaskGone or PermissionMissing if one cannot be looked at."""
    from clew.kernel import procfs

    found = []
    for word in words:
        if not word.isascii() or not word.isdigit():
            raise UsageError(f"{word!r} is no process id.", "`ps -e` lists processes with theirs.")
        pid = procfs.process_of(int(word))
        if not pid:
            raise TaskGone(int(word), f"There is no process {word}.", "`ps -e` lists those there are.")
        if procfs.read(f"/proc/{pid}/syscall") is None:
            raise PermissionMissing(f"Process {pid} is not yours to look into.", "Run clew as root (sudo).")
        found.append(pid)
    return tuple(found)
