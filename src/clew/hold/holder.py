"""The holder: a process of its own that traces the program for a holding session of the ptrace engine.

It is apart from whoever asked for it, so that the program is not hurt when that one is killed: it then takes
every breakpoint out, lets everybody run and ends.  It never uses PTRACE_O_EXITKILL.  Were the holder itself
killed, its heir does that.

Run as ``holder.main(ASKS, TELLS, DOOR, OWNER)``: the descriptors of three sockets, and whom it is for.
"""

from __future__ import annotations

import json
import pickle
import signal
import socket
from contextlib import suppress
from functools import partial

from clew.engine.ptrace.heir_log import HeirLog
from clew.engine.ptrace.stops import PtraceStops
from clew.engine.ptrace.wakes import Wakes
from clew.errors import ClewError, EngineError
from clew.hold.error_wire import error_wire
from clew.hold.heir import leave_heir
from clew.hold.hold import HoldEvent
from clew.hold.options import HoldOptions
from clew.hold.session import HoldSession
from clew.hold.spared import DEBUGGERS
from clew.hold.tracing import TraceKeeper
from clew.kernel.pidfd import PidFd
from clew.model.rules.rule import RuleSet
from clew.model.task import TaskId

_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGPIPE)
_GONE = "clew hold ended"
_ADMITTED = b"x"


class PtraceBacking:
    """Stops of traced tasks.  There is no guardian: if the holder is killed its heir lets everybody go."""

    def __init__(self, stops: PtraceStops, log: HeirLog) -> None:
        self.stops, self._log = stops, log
        self.keeper = TraceKeeper(stops)

    def ready(self) -> None:
        """Nothing to wait for."""

    def begin(self) -> None:
        """Nothing to do."""

    def pulse(self) -> str:
        """Nobody else is needed."""
        return ""

    def holds(self, task: TaskId) -> None:
        """The heir lets it go, if need be."""
        self._log.holds(task)

    def let_go(self, task: TaskId) -> None:
        """It is over."""
        self._log.let_go(task)

    def leave(self) -> None:
        """Cease to trace: tracees belong to this thread."""
        self.stops.close()

    def close(self, rest: bool = False) -> None:
        """Nothing is left to end."""


def main(asks: int, tells: int, door: int, owner: int) -> None:
    """Serve until the owner says so, or is gone."""
    log = HeirLog()
    leave_heir(log)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    asking, telling, admitting = (socket.socket(fileno=fd) for fd in (asks, tells, door))
    try:
        session = _begin(asking, owner, log)
        asking.sendall(json.dumps({"ok": True}).encode() + b"\n")
    except ClewError as error:
        asking.sendall(json.dumps(error_wire(error)).encode() + b"\n")
        return
    except Exception as error:
        fault = EngineError(f"clew's holder could not start: {error!r}.", "Report this.")
        asking.sendall(json.dumps(error_wire(fault)).encode() + b"\n")
        return
    signal.signal(signal.SIGTERM, lambda _number, _frame: session.end(_GONE))
    session.call(partial(_listen, session, asking, telling, admitting, owner))
    session.join()
    session.close()


def _begin(asking: socket.socket, owner: int, log: HeirLog) -> HoldSession:
    """The session, armed and tracing, but holding nobody yet."""
    with asking.makefile("rb") as file:
        size = int(file.readline())
        rules, options, public = pickle.loads(file.read(size))
    assert isinstance(rules, RuleSet) and isinstance(options, HoldOptions)
    late: list[HoldEvent] = []
    stops = PtraceStops(
        options.most, Wakes(), log, owner, DEBUGGERS, lambda text: late.append(_warning(text))
    )
    session = HoldSession(rules, options, PtraceBacking(stops, log), public)
    stops.tell = lambda text: session.tell(_warning(text))
    session.start(enabled=False)
    try:
        for pid in options.pids:
            session.call(partial(stops.seize, pid))
    except BaseException:
        session.close()
        raise
    return session


def _warning(text: str) -> HoldEvent:
    return HoldEvent("warning", reason=text)


def _listen(
    session: HoldSession, asking: socket.socket, telling: socket.socket, door: socket.socket, owner: int
) -> None:
    """In the session's thread: answer the owner, and end when it is gone."""
    life = PidFd(owner)
    session.watch(life.fileno(), lambda: session.end(_GONE))
    session.control.adopt(asking, on_leave=lambda: session.end(_GONE))
    session.control.adopt(telling)
    door.setblocking(False)
    session.watch(door.fileno(), lambda: _admit(session, door))


def _admit(session: HoldSession, door: socket.socket) -> None:
    """A child of the owner wants to be traced before it execs; it waits for the answer."""
    try:
        said, fds, _flags, _address = socket.recv_fds(door, 16, 1)
    except BlockingIOError:
        return
    if not said:
        session.unwatch(door.fileno())
        return
    with socket.socket(fileno=fds[0]) as child:
        answer = _ADMITTED
        try:
            session.stops.set_command(int(said))
        except ClewError as error:
            answer = str(error).encode()
        with suppress(OSError):
            child.send(answer)
