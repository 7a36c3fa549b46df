"""The main loop of ``clew hold``: tell what happens, run the command, ask, end well."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from types import FrameType

from clew.cli import holding
from clew.cli.question import Question
from clew.errors import ClewError
from clew.hold.hold import Hold, HoldEvent
from clew.hold.options import HoldOptions
from clew.hold.sessions import Session, open_session
from clew.kernel.launch import GatedCommand
from clew.kernel.pidfd import PidFd
from clew.model.rules.rule import RuleSet
from clew.view.escape import visible


class HoldLoop:
    """One run of ``clew hold``."""

    def __init__(
        self, rules: RuleSet, options: HoldOptions, engine: str, as_json: bool, quiet: bool, asks: bool
    ) -> None:
        self._rules, self._options, self._engine = rules, options, engine
        self._json, self._quiet, self._asks = as_json, quiet, asks
        self._events: deque[HoldEvent] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._interrupts = 0
        self._question = Question()

    def run(self) -> int:
        """Hold until there is no more reason to; the command's status (-N: signal N ended it), else 0."""
        session, why = open_session(self._rules, self._options, self._engine, control=True)
        session.listen(self._take)
        signal.signal(signal.SIGINT, self._interrupted)
        signal.signal(signal.SIGTERM, self._terminated)
        signal.signal(signal.SIGHUP, self._terminated)
        try:
            command = GatedCommand(self._options.command, session.tracer) if self._options.command else None
            session.start()
            self._announce(why, session.notes())
            if command:
                session.set_command(command.pid)
                command.open()
            return self._wait(session, command)
        finally:
            session.close()
            self._tell_all(session)

    def _wait(self, session: Session, command: GatedCommand | None) -> int:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if self._asks:
            poll.register(0, select.POLLIN)
        served = PidFd(self._options.serves) if self._options.serves else None
        if served:
            poll.register(served, select.POLLIN)
        while not (served and served.ended()):
            ready = {fd for fd, _events in poll.poll(50 if command and command.wait_status is None else 1000)}
            if self._wake in ready:
                os.eventfd_read(self._wake)
            self._tell_all(session)
            if 0 in ready and self._asks:
                self._obey(session, sys.stdin.readline())
            ended = command is not None and command.ended(0)
            if self._interrupts > (0 if command is None or ended else 1):
                break
            if ended and not session.holds():
                break
        return _status(command)

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupts += 1
        os.eventfd_write(self._wake, 1)

    def _terminated(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupts += 2
        os.eventfd_write(self._wake, 1)

    def _take(self, event: HoldEvent) -> None:
        self._events.append(event)
        os.eventfd_write(self._wake, 1)

    def _announce(self, why: str, notes: Iterable[str]) -> None:
        if why and not self._quiet:
            print(f"clew: {visible(why)}", file=sys.stderr)
        if not (self._json or self._quiet):
            count = len(self._rules.rules)
            self._print(f"Holding by {count} rule{'s' * (count != 1)}; ^C lets everything go and ends.")
        for note in notes:
            self._events.append(HoldEvent("warning", reason=note))

    def _tell_all(self, session: Session) -> None:
        while self._events:
            self._tell(self._events.popleft())
        self._question.show()

    def _tell(self, event: HoldEvent) -> None:
        if self._json:
            print(json.dumps(holding.event_json(event)), flush=True)
        elif event.event == "warning":
            self._print(f"clew: {visible(event.reason)}")
        elif event.hold is not None and not self._quiet:
            told = _held_lines(event.hold) if event.event == "held" else [_released_line(event)]
            if event.event == "released":
                self._question.drop(event.hold.id)
            elif self._asks:
                self._question.add(event.hold.id)
            self._print("\n".join(told))

    def _print(self, text: str) -> None:
        """To stderr: stdout is the command's."""
        self._question.make_room()
        print(text, file=sys.stderr if self._options.command else sys.stdout, flush=True)

    def _obey(self, session: Session, line: str) -> None:
        if not line:
            self._interrupts += 1
            return
        self._question.answered()
        hold_id, answer = self._question.about, line.strip().lower()
        if not hold_id:
            if answer:
                self._print("There is nothing to decide; `clew ps` lists what is held.")
            return
        try:
            match answer:
                case "r" | "release":
                    session.release(hold_id)
                    self._question.drop(hold_id)
                    return  # The next question comes after the line that tells of this.
                case "b" | "bt" | "backtrace":
                    self._backtrace(hold_id)
                case "g" | "gdb":
                    self._debug(hold_id)
                    self._question.drop(hold_id)
                case "":
                    self._question.drop(hold_id)
                case _:
                    self._print("r, b, g, or Enter.")
        except ClewError as error:
            self._print(f"clew: {visible(error.cause)}")
        self._question.show()

    def _debug(self, hold_id: str) -> None:
        """gdb, here and now; what else is held waits meanwhile, and is asked about after."""
        from clew.cli.debugging import run_debugger
        from clew.debugger.gdb import gdb_command

        run_debugger(gdb_command, hold_id, ())

    def _backtrace(self, hold_id: str) -> None:
        """By ``clew bt``, which unwinds without rights; a fork of this process and its threads could not."""
        from clew.debugger.gdb import clew_command

        command = [*clew_command(), "bt", hold_id]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        said = (done.stdout or done.stderr).decode(errors="replace")
        self._print("\n".join(f"  {line}" for line in said.splitlines()))


def _held_lines(hold: Hold) -> list[str]:
    command = " ".join(visible(argument) for argument in hold.argv)
    only = "this thread only" if hold.scope == "thread" else "the process"
    return [
        f"{hold.id}  {holding.task(hold)}  {visible(hold.rule)}",
        f"    {command[:200]}",
        f"    held {holding.EXACTNESS.get(hold.exact, hold.exact)}, {only}, in {holding.place(hold.at)}",
        f"    clew gdb {hold.id} · clew bt {hold.id} · clew release {hold.id}",
    ]


def _released_line(event: HoldEvent) -> str:
    assert event.hold is not None
    return f"{event.hold.id}  {holding.task(event.hold)}  let go: {visible(event.reason)}"


def _status(command: GatedCommand | None) -> int:
    if command is None or command.wait_status is None:
        return 0
    return os.waitstatus_to_exitcode(command.wait_status)
