"""A holding session that runs in a holder process, as its owner sees it."""

from __future__ import annotations

import json
import os
import pickle
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from clew.errors import HoldError, PermissionMissing
from clew.hold.client import HoldClient
from clew.hold.error_wire import error_from_wire
from clew.hold.hold import Hold, HoldEvent
from clew.hold.options import HoldOptions
from clew.kernel import helper, ptrace
from clew.kernel.pidfd import PidFd
from clew.model.rules.rule import RuleSet

_DID_NOT_START = {"ok": False, "cause": "The holder process did not start.", "remedy": ""}
Answer = TypeVar("Answer")
_START_S = 60.0
_END_S = 10.0


class RemoteSession:
    """Starts a holder and asks it; see ``clew.hold.sessions.Session``.

    Raises what arming the rules, and tracing the processes of ``options.pids``, raise.
    """

    def __init__(self, rules: RuleSet, options: HoldOptions, control: bool) -> None:
        asks, theirs = socket.socketpair()
        tells, their_tells = socket.socketpair()
        self._door, their_door = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._tells = tells
        given = (theirs.fileno(), their_tells.fileno(), their_door.fileno())
        with theirs, their_tells, their_door:
            self.tracer = helper.start("clew.hold.holder", given, (*given, os.getpid()))
        self._life = PidFd(self.tracer)
        self._listeners: list[Callable[[HoldEvent], None]] = []
        self._lock = threading.Lock()
        self._over = False
        try:
            self._set_up(asks, rules, options, control)
        except BaseException:
            asks.close()
            self._forget()
            raise
        self._client = HoldClient(asks)

    def _set_up(self, asks: socket.socket, rules: RuleSet, options: HoldOptions, control: bool) -> None:
        said = pickle.dumps((rules, options, control))
        asks.settimeout(_START_S)
        try:
            asks.sendall(b"%d\n" % len(said) + said)
            line = _line(asks)
            answer = json.loads(line) if line else _DID_NOT_START
        except OSError as error:
            raise HoldError(f"The holder process does not answer: {error}.") from error
        if not answer["ok"]:
            raise error_from_wire(answer)

    def start(self) -> None:
        """From now on tasks are held."""
        told = threading.Event()
        threading.Thread(target=self._hear, args=(told,), name="clew-hold-events", daemon=True).start()
        told.wait(_START_S)
        self._ask(lambda: self._client.request("begin"))

    def _hear(self, told: threading.Event) -> None:
        client = HoldClient(self._tells)
        with suppress(HoldError, OSError, ValueError):
            for event in client.events(told.set):
                for listener in list(self._listeners):
                    listener(event)
        told.set()
        self._over = True

    def notes(self) -> list[str]:
        """What a rule that is in force cannot do: nothing, by this engine."""
        return []

    def listen(self, listener: Callable[[HoldEvent], None]) -> None:
        """Call ``listener`` for each event, in a thread of its own."""
        self._listeners.append(listener)

    def set_command(self, pid: int) -> None:
        """Have the command traced, which waits at its gate."""
        self._ask(lambda: self._client.request("command", pid=pid))

    def admit(self) -> None:
        """In a forked child that is about to exec: return once it is traced, or PermissionMissing."""
        ptrace.let_trace(self.tracer)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                socket.send_fds(self._door, [str(os.getpid()).encode()], [theirs.fileno()])
            answer = ours.recv(4096)
        if answer != b"x":
            raise PermissionMissing(answer.decode() or "The holder process has ended.")

    def holds(self) -> list[Hold]:
        """Everything held now, oldest first."""
        return self._ask(self._client.holds)

    def hold(self, hold_id: str) -> Hold:
        """One hold, as it is now."""
        return Hold.from_wire(self._ask(lambda: self._client.request("hold", hold=hold_id))["hold"])

    def look(self, hold_id: str) -> tuple[Hold, bytes, bytes]:
        """The hold, its registers and its stack."""
        return self._ask(lambda: self._client.look(hold_id))

    def hand_over(self, hold_id: str) -> Hold:
        """Leave it plainly stopped, for a debugger to attach."""
        return self._ask(lambda: self._client.hand_over(hold_id))

    def renew(self, hold_id: str, lease_s: float | None = None) -> Hold:
        """Begin its lease anew."""
        return self._ask(lambda: self._client.renew(hold_id, lease_s))

    def release(self, hold_id: str, force: bool = False) -> Hold:
        """Let one go."""
        return self._ask(lambda: self._client.release(hold_id, force))[0]

    def release_all(self) -> list[Hold]:
        """Let everything go, what debuggers have too."""
        return self._ask(lambda: self._client.release("all"))

    def close(self, reason: str = "clew hold ended") -> None:
        """Let everything go, and end the holder."""
        with suppress(HoldError):
            self._ask(lambda: self._client.request("end", reason=reason))
        self._client.close()
        self._forget()

    def _ask(self, request: Callable[[], Answer]) -> Answer:
        with self._lock:
            return request()

    def _forget(self) -> None:
        """Part with the holder: it ends by itself, sooner or later."""
        self._door.close()
        if self._life.ended(_END_S):
            with suppress(ChildProcessError):
                os.waitpid(self.tracer, 0)
        self._life.close()
        self._tells.close()


def _line(connected: socket.socket) -> bytes:
    """One line, and not a byte more: others will read what follows."""
    found = bytearray()
    while not found.endswith(b"\n"):
        byte = connected.recv(1)
        if not byte:
            return b""
        found += byte
    return bytes(found)
