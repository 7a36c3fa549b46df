"""What ``follow`` and ``record`` share: their options, and making a recording."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from clew.engine.choose import ENGINES, choose
from clew.engine.engine import RecordOutcome, RecordRequest
from clew.errors import UsageError
from clew.kernel import procfs
from clew.trace.spool import SpoolWriter
from clew.view.escape import visible


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a recording, and the command."""
    parser.add_argument("-o", "--output", metavar="TRACE", help="keep the recording in this folder")
    parser.add_argument("-p", "--pid", type=int, action="append", default=[], metavar="PID",
                        help="record this process too (repeatable)")  # fmt: skip
    parser.add_argument("--scope", choices=("tree", "system"), default="system",
                        help="whole system (default), or only the command, the -p processes and their children")  # fmt: skip
    parser.add_argument("--exclude", action="append", default=[], metavar="GLOB",
                        help="leave out programs of this name (repeatable)")  # fmt: skip
    parser.add_argument("--no-stacks", action="store_true", help="take no backtraces: less cost per event")
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="where events come from")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but results and errors")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="[--] COMMAND", help="what to run")


def command_of(args: argparse.Namespace) -> tuple[bytes, ...]:
    """The command to run, without the ``--`` that may precede it; () if there is none."""
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    if not words and not args.pid:
        raise UsageError("There is nothing to record.", "Give a command after --, or a process with -p PID.")
    return tuple(os.fsencode(word) for word in words)


@contextmanager
def trace_folder(output: str | None) -> Iterator[Path]:
    """Where the recording goes: the folder named, or one that goes away."""
    if output is not None:
        yield Path(output)
        return
    with tempfile.TemporaryDirectory(prefix="clew-") as folder:
        yield Path(folder) / "trace"


class _Interrupt:
    """Counts ^C: the first is the command's (the terminal gives it to both), the second ends the recording."""

    def __init__(self, has_command: bool) -> None:
        self._allowed = 1 if has_command else 0
        self.seen = 0

    def stopping(self) -> bool:
        return self.seen > self._allowed

    @contextmanager
    def caught(self) -> Iterator[None]:
        def count(number: int, _frame: FrameType | None) -> None:
            self.seen += 1 if number == signal.SIGINT else 2

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [signal.signal(number, count) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


def make(args: argparse.Namespace, folder: Path) -> RecordOutcome:
    """Record into ``folder`` until the command ends.  Raises ClewError."""
    command = command_of(args)
    engine, why = choose(args.engine)
    if why and not args.quiet:
        print(f"clew: {visible(why)}", file=sys.stderr)
    request = RecordRequest(
        command=command,
        pids=tuple(args.pid),
        scope=args.scope,
        exclude=tuple(os.fsencode(glob) for glob in args.exclude),
        stacks=not args.no_stacks,
    )
    spool = SpoolWriter(folder)
    interrupt = _Interrupt(bool(command))
    try:
        spool.write_meta(
            command=[os.fsdecode(word) for word in command],
            pids=list(args.pid),
            until=getattr(args, "until", None),
            engine=engine.name,
            boot_id=procfs.boot_id(),
            began=time.clock_gettime_ns(time.CLOCK_MONOTONIC),
            wall=time.time(),
            machine=os.uname().machine,
            release=os.uname().release,
        )
        with interrupt.caught():
            outcome = engine.record(request, spool, interrupt.stopping)
        spool.write_meta(
            finished=True,
            root_pid=outcome.root_pid,
            wait_status=outcome.wait_status,
            lost=outcome.lost,
            notes=outcome.notes,
        )
    finally:
        spool.close()
    return outcome


def exit_status(outcome: RecordOutcome) -> int:
    """The command's own status; negative for death by that signal; 0 without a command."""
    return 0 if outcome.wait_status is None else os.waitstatus_to_exitcode(outcome.wait_status)
