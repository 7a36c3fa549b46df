"""What ``follow`` and ``record`` share: making a recording."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from clew.engine.choose import choose
from clew.engine.engine import Engine, JobPoint, RecordOutcome, RecordRequest
from clew.engine.exclusions import parse_exclusions
from clew.errors import CommandNotFound, EngineError, PermissionMissing, TaskGone, TraceError, UsageError
from clew.kernel import procfs
from clew.kernel.launch import check_program
from clew.trace.spool import FULL, SpoolWriter
from clew.view.escape import visible


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
        try:
            yield Path(folder) / "trace"
        except TraceError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL:
                raise TraceError(error.cause, "Name a place with more room with -o.") from error.__cause__
            raise


class _Interrupt:
    """Counts ^C: the first is for the command (the terminal gives it to both), the second for us.

    Being told to end (SIGTERM, SIGHUP) ends the recording at once.  Signals that were ignored when clew was
    started stay so, for the command too.
    """

    def __init__(self, has_command: bool) -> None:
        self._allowed = 1 if has_command else 0
        self._seen = 0
        self.last = 0

    def stopping(self) -> bool:
        return self._seen > self._allowed

    @contextmanager
    def caught(self) -> Iterator[None]:
        def count(number: int, _frame: FrameType | None) -> None:
            self._seen += 1 if number == signal.SIGINT else 2
            self.last = number

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.getsignal(number) for number in numbers}
        heeded = [number for number in numbers if before[number] is not signal.SIG_IGN]
        for number in heeded:
            signal.signal(number, count)
        try:
            yield
        finally:
            for number in heeded:
                signal.signal(number, before[number])


def _look_before(request: RecordRequest) -> None:
    """Raise for a command, process or pattern that cannot be, before an earlier trace is overwritten."""
    parse_exclusions(request.exclude)
    if request.command:
        check_program(request.command[0])
    there = procfs.pids()
    for pid in request.pids:
        if pid not in there:
            process = procfs.process_of(pid)
            if process:
                raise UsageError(
                    f"{pid} is a thread of process {process}.", f"Record all of it: -p {process}"
                )
            raise TaskGone(pid, f"There is no process {pid}.", "It may have ended; `ps -e` shows what runs.")


@dataclass(frozen=True, slots=True)
class Recording:
    """What came of it.  ``status``: what clew exits with, the command's own; negative for death by a signal.

    Where a signal ended the recording and the command runs on, it is 128 and the signal's number.
    """

    outcome: RecordOutcome
    status: int


def make(args: argparse.Namespace, folder: Path) -> Recording:
    """Record into ``folder`` until the command ends.  Raises ClewError."""
    request = RecordRequest(
        command=command_of(args),
        pids=tuple(args.pid),
        scope=args.scope,
        exclude=tuple(os.fsencode(glob) for glob in args.exclude),
        stacks=not args.no_stacks,
        queue=_queue(args),
    )
    _look_before(request)
    engine, why = choose(args.engine, request)
    if why and not args.quiet:
        print(f"clew: {visible(why)}", file=sys.stderr)
    with closing(engine):
        return _record_into(folder, args, engine, request)


def _queue(args: argparse.Namespace) -> tuple[JobPoint, ...]:
    if not args.queue:
        return ()
    from clew.cli.queue import job_points

    return job_points(args.queue, command_of(args)[:1])


def _record_into(folder: Path, args: argparse.Namespace, engine: Engine, request: RecordRequest) -> Recording:
    spool = SpoolWriter(folder)
    try:
        spool.write_meta(**_beginning(args, request.command, engine.name))
        return _record(engine, request, spool)
    except (CommandNotFound, PermissionMissing, EngineError, TaskGone):
        spool.discard()
        raise
    finally:
        spool.close()


def _record(engine: Engine, request: RecordRequest, spool: SpoolWriter) -> Recording:
    interrupt = _Interrupt(bool(request.command))
    with interrupt.caught():
        outcome = engine.record(request, spool, interrupt.stopping)
    if request.command and outcome.wait_status is None:
        outcome.notes.append(f"The recording was ended before the command (process {outcome.root_pid}) was.")
    spool.write_meta(
        finished=True,
        root_pid=outcome.root_pid,
        wait_status=outcome.wait_status,
        lost=outcome.lost,
        notes=outcome.notes,
    )
    if outcome.wait_status is not None:
        return Recording(outcome, os.waitstatus_to_exitcode(outcome.wait_status))
    return Recording(outcome, 128 + interrupt.last if request.command else 0)


def _beginning(args: argparse.Namespace, command: tuple[bytes, ...], engine: str) -> dict[str, Any]:
    """What meta.json says from the start."""
    return {
        "command": [os.fsdecode(word) for word in command],
        "pids": list(args.pid),
        "until": getattr(args, "until", None),
        "engine": engine,
        "boot_id": procfs.boot_id(),
        "began": time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        "wall": time.time(),
        "machine": os.uname().machine,
        "release": os.uname().release,
    }
