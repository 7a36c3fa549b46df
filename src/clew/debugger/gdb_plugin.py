"""clew inside gdb (12 or newer): see what is held, take it, let it go, and have new children wait.

gdb reads this file with its own Python, which knows nothing of clew's packages; so it needs the standard
library alone, and speaks the control socket's JSON itself (clew.hold.control).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from typing import Any

import gdb  # type: ignore[import-untyped,import-not-found,unused-ignore]  # gdb brings it

_START_S = 20.0


def _socket_path() -> str:
    """Where the session listens: as clew.kernel.runtime_dir has it."""
    chosen = os.environ.get("CLEW_RUNTIME_DIR")
    of_user = os.environ.get("XDG_RUNTIME_DIR")
    if not chosen:
        if os.geteuid() == 0:
            chosen = "/run/clew"
        else:
            chosen = os.path.join(of_user, "clew") if of_user else f"/tmp/clew-{os.geteuid()}"  # noqa: PTH118
    return os.path.join(chosen, "hold.sock")  # noqa: PTH118


class Session:
    """A connection to the holding session; what it was asked to watch ends with it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        try:
            self._socket.connect(_socket_path())
        except OSError:
            self._socket.close()
            raise gdb.GdbError("clew: nothing is held: no `clew hold` of this user runs.") from None
        self._file = self._socket.makefile("rb")

    def request(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Ask, and return the answer; gdb.GdbError with the cause if it is refused."""
        try:
            self._socket.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
            line = self._file.readline()
        except OSError as error:
            raise gdb.GdbError(f"clew: the holding session does not answer: {error}") from None
        if not line:
            raise gdb.GdbError("clew: the holding session has ended.")
        answer: dict[str, Any] = json.loads(line)
        if not answer["ok"]:
            raise gdb.GdbError(f"clew: {answer['cause']} {answer['remedy']}".strip())
        return answer

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def _holds() -> list[dict[str, Any]]:
    session = Session()
    try:
        found: list[dict[str, Any]] = session.request("ps")["holds"]
        return found
    finally:
        session.close()


def _visible(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\x{ord(char) & 0xFF:02x}" for char in text)


class _State:
    """What this gdb has to do with holds: who it took, and its own rules."""

    taken: dict[int, str] = {}  # noqa: RUF012 (one gdb, one state)
    keeper: subprocess.Popen[bytes] | None = None
    watching: Session | None = None


class HoldsCommand(gdb.Command):  # type: ignore[misc]
    """List the tasks that clew holds: clew holds"""

    def __init__(self) -> None:
        super().__init__("clew holds", gdb.COMMAND_STATUS)

    def invoke(self, _argument: str, _from_tty: bool) -> None:
        holds = _holds()
        for hold in holds:
            task, at = hold["task"], hold["at"]
            where = at["function"] or "?"
            print(
                f"{hold['id']:<5} process {task['pid']} thread {task['tid']}"
                f"  {_visible(hold['comm'])}  {_visible(where)}  ({_visible(hold['rule'])})"
            )
        if not holds:
            print("Nothing is held.")


class TakeCommand(gdb.Command):  # type: ignore[misc]
    """Attach to a held task in an inferior of its own: clew take H1"""

    def __init__(self) -> None:
        super().__init__("clew take", gdb.COMMAND_RUNNING)

    def invoke(self, argument: str, _from_tty: bool) -> None:
        name = argument.strip()
        if not name:
            raise gdb.GdbError("clew take wants a hold, such as H1 (clew holds lists them).")
        session = Session()
        try:
            hold = session.request("handover", hold=name)["hold"]
        finally:
            session.close()
        task = hold["task"]
        if gdb.selected_inferior().pid:
            gdb.execute("add-inferior -no-connection", to_string=True)
            newest = max(inferior.num for inferior in gdb.inferiors())
            gdb.execute(f"inferior {newest}", to_string=True)
        gdb.execute(f"attach {task['pid']}")
        took(task["pid"], name)
        select_thread(task["tid"])


class ReleaseCommand(gdb.Command):  # type: ignore[misc]
    """Let a held task go: clew release H1|all.  One that is in this gdb is detached first."""

    def __init__(self) -> None:
        super().__init__("clew release", gdb.COMMAND_RUNNING)

    def invoke(self, argument: str, _from_tty: bool) -> None:
        name = argument.strip() or self._selected()
        session = Session()
        try:
            session.request("release", hold=name, force=True)
        finally:
            session.close()
        for pid, hold in list(_State.taken.items()):
            if name in (hold, "all"):
                del _State.taken[pid]
                _detach(pid)

    def _selected(self) -> str:
        name = _State.taken.get(gdb.selected_inferior().pid)
        if name is None:
            raise gdb.GdbError("clew release wants a hold, such as H1, or all.")
        return name


def _detach(pid: int) -> None:
    for inferior in gdb.inferiors():
        if inferior.pid == pid:
            gdb.execute(f"detach inferiors {inferior.num}")


class ChilddbgCommand(gdb.Command):  # type: ignore[misc]
    """Have new children of the debugged programs wait: clew childdbg on | off | RULE

    "on" holds every program that a child of this inferior executes, at its first instruction; RULE holds by
    that rule instead, such as fork:* or exec:helper, among the inferior's descendants.  "off" ends it.
    Without an argument: say what is in force.  Held children are listed by `clew holds`.
    """

    def __init__(self) -> None:
        super().__init__("clew childdbg", gdb.COMMAND_RUNNING)
        self._wish = ""
        self._armed: dict[int, str] = {}
        for registry in (gdb.events.new_objfile, gdb.events.cont):
            registry.connect(self._look)

    def invoke(self, argument: str, _from_tty: bool) -> None:
        wish = argument.strip()
        if not wish:
            print(f"Children wait: {_visible(self._wish)}" if self._wish else "Children do not wait.")
        elif wish == "off":
            self._off()
            print("Children no longer wait; what is held stays held.")
        else:
            self._off()
            self._wish = "exec:*" if wish == "on" else wish
            _State.watching = _ensure_session()
            self._look(None)
            print(f"Children wait: {_visible(self._wish)}")

    def _off(self) -> None:
        """The rules end with the connection that they were given on."""
        if _State.watching is not None:
            _State.watching.close()
        _State.watching, self._wish = None, ""
        self._armed.clear()

    def _look(self, _event: object) -> None:
        """Put the wish in force below every inferior that has a process by now, before it runs."""
        if not self._wish or _State.watching is None:
            return
        for inferior in gdb.inferiors():
            if inferior.pid and inferior.pid not in self._armed:
                rule = f"{self._wish},tree={inferior.pid}"
                self._armed[inferior.pid] = rule
                _State.watching.request("arm", rules=[rule], under_debugger=True, while_connected=True)


def _ensure_session() -> Session:
    """The session of this user, or else one of our own, which ends with gdb."""
    try:
        return Session()
    except gdb.GdbError:
        pass
    command = json.loads(os.environ.get("CLEW_COMMAND") or json.dumps(CLEW_COMMAND))
    _State.keeper = subprocess.Popen(
        [*command, "hold", "--service", str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        try:
            return Session()
        except gdb.GdbError:
            if _State.keeper.poll() is not None:
                said = _State.keeper.stderr.read().decode(errors="replace") if _State.keeper.stderr else ""
                raise gdb.GdbError(said.strip() or "clew hold did not start.") from None
            time.sleep(0.05)
    raise gdb.GdbError("clew hold did not start in time.")


def took(pid: int, name: str) -> None:
    """Remember that this gdb has the hold ``name``, process ``pid``; pass over the stop that held it."""
    _State.taken[pid] = name
    _PassOver.begin()


class _PassOver:
    """Threads that were stopped by a signal still have one to deliver when they are first continued.

    It is swallowed in silence until gdb has stopped twice; from then on a SIGSTOP is somebody's again.
    """

    stops = 0

    @classmethod
    def begin(cls) -> None:
        if not cls.stops:
            gdb.events.stop.connect(cls._stopped)
        cls.stops = 2
        gdb.execute("handle SIGSTOP nostop noprint nopass", to_string=True)

    @classmethod
    def _stopped(cls, _event: object) -> None:
        cls.stops -= 1
        if cls.stops <= 0:
            gdb.events.stop.disconnect(cls._stopped)
            gdb.execute("handle SIGSTOP stop print pass", to_string=True)


def select_thread(tid: int) -> None:
    """Make thread ``tid`` of the selected inferior the current one, and show where it stands."""
    for thread in gdb.selected_inferior().threads():
        if thread.ptid[1] == tid:
            thread.switch()
            gdb.execute("frame 0")
            return


def _leaving(_event: object) -> None:
    """gdb ends: what it took stays held, or is let go, as the user says."""
    for inferior in gdb.inferiors():
        name = _State.taken.get(inferior.pid)
        if name is None or not inferior.pid:
            continue
        wish = "release" if _wants_release(name) else "keep"
        try:
            session = Session()
            session.request(wish, hold=name, force=True)
            session.close()
        except gdb.GdbError as error:
            print(error)
            continue
        if wish == "keep":
            _stop_on_detach(inferior)


def _stop_on_detach(inferior: Any) -> None:
    """Have the process stop again as soon as gdb has left it.

    gdb leaves the first thread last, with the signal that is queued for it.  Where another event is pending
    there, or gdb sends a SIGCONT to a thread that it had stopped itself, that signal is lost; then the
    session's own net catches the process at its next system call.
    """
    try:
        gdb.execute("handle SIGSTOP nostop noprint pass", to_string=True)
        if gdb.selected_inferior() != inferior:
            gdb.execute(f"inferior {inferior.num}", to_string=True)
        leader = next(thread for thread in inferior.threads() if thread.ptid[1] == inferior.pid)
        leader.switch()
        gdb.execute("queue-signal SIGSTOP", to_string=True)
    except (gdb.error, StopIteration):
        pass
    os.kill(inferior.pid, signal.SIGSTOP)


def _wants_release(name: str) -> bool:
    if not os.isatty(0) or gdb.parameter("confirm") is False:
        return False
    try:
        answer = input(f"{name}: release it, or keep it held? [r/K] ")
    except (EOFError, KeyboardInterrupt):
        return False
    return answer.strip().lower() in ("r", "release")


CLEW_COMMAND = ["clew"]

if not hasattr(gdb, "clew_plugin"):
    gdb.clew_plugin = True
    gdb.execute("define-prefix clew")
    HoldsCommand()
    TakeCommand()
    ReleaseCommand()
    ChilddbgCommand()
    if hasattr(gdb.events, "gdb_exiting"):
        gdb.events.gdb_exiting.connect(_leaving)
    else:
        # gdb 12 has no such event, but a hook on the command that also ^D and the end of a batch go through.
        gdb.execute("define hook-quit\npython _leaving(None)\nend")
