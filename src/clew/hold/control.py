"""The control socket: what another terminal, a debugger or a script asks of a holding session.

A request is one line of JSON, ``{"do": NAME, ...}``; so is its answer, ``{"ok": true, ...}`` or
``{"ok": false, "cause": ..., "remedy": ...}``.  Only this user and root are listened to.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from clew.engine.stops import Stops
from clew.errors import ClewError, HoldError, UsageError
from clew.hold.arming import Arming
from clew.hold.book import Book
from clew.hold.error_wire import error_wire
from clew.hold.hold import Hold, HoldEvent
from clew.kernel.runtime_dir import runtime_dir
from clew.model.rules.parse import parse_rules

SOCKET, LOCK = "hold.sock", "hold.lock"
_LONGEST_REQUEST = 1 << 20
_CREDENTIALS = struct.Struct("=iII")


class Served(Protocol):
    """What is asked of the session that the socket is of."""

    @property
    def stops(self) -> Stops:
        """The engine's stops."""

    @property
    def arming(self) -> Arming:
        """The rules that are in force."""

    @property
    def book(self) -> Book:
        """Its holds."""

    def listen(self, listener: Callable[[HoldEvent], None]) -> None:
        """Call ``listener`` for each event."""

    def watch(self, fd: int, act: Callable[[], None]) -> None:
        """Call ``act`` whenever ``fd`` can be read."""

    def unwatch(self, fd: int) -> None:
        """Do so no more."""

    def look(self, hold_id: str) -> tuple[Hold, bytes, bytes]:
        """A hold, its registers and its stack."""

    def close_down(self, reason: str) -> None:
        """End the session."""


class ControlServer:
    """Answers for ``session``, in its thread: whom ``adopt`` was given, and if ``public``, other terminals.

    There is one public one for each user at a time.  Raises HoldError if another session has the runtime
    folder, PermissionMissing if there can be none.
    """

    def __init__(self, session: Served, public: bool = True) -> None:
        self._session = session
        self._clients: dict[int, _Client] = {}
        self._followers: list[_Client] = []
        self._door = _Door() if public else None

    def start(self) -> None:
        """Answer from now on.  To be called before the session starts, or in its thread."""
        if self._door is not None:
            self._session.watch(self._door.socket.fileno(), self._accept)
        self._session.listen(self._pass_on)

    def close(self) -> None:
        """Answer nobody more.  To be called after the session has ended."""
        for client in list(self._clients.values()):
            client.socket.close()
        if self._door is not None:
            self._door.close()

    def adopt(self, taken: socket.socket, on_leave: Callable[[], None] | None = None) -> None:
        """Answer whoever is at the other end of a connection.

        The owner of the session is the one whose going is to be told to ``on_leave``.
        """
        taken.setblocking(False)
        client = _Client(taken, on_leave)
        self._clients[taken.fileno()] = client
        self._session.watch(taken.fileno(), lambda: self._hear(client))

    def _accept(self) -> None:
        assert self._door is not None
        with suppress(BlockingIOError):
            taken, _ = self._door.socket.accept()
            if _peer_uid(taken) not in (0, os.geteuid()):
                taken.close()
                return
            self.adopt(taken)

    def _hear(self, client: _Client) -> None:
        try:
            data = client.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.buffer += data
        if not data or len(client.buffer) > _LONGEST_REQUEST:
            self._leave(client)
            return
        while b"\n" in client.buffer:
            line, _, client.buffer = client.buffer.partition(b"\n")
            self._say(client, self._answer(client, line))

    def _leave(self, client: _Client) -> None:
        self._session.unwatch(client.socket.fileno())
        self._clients.pop(client.socket.fileno(), None)
        if client in self._followers:
            self._followers.remove(client)
        for pid in client.spares:
            self._session.stops.unspare(pid)
        for number in client.rules:
            self._session.arming.disarm(number)
        client.socket.close()
        if client.on_leave is not None:
            client.on_leave()

    def _answer(self, client: _Client, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            action = (_OWNERS_ACTIONS if client.on_leave else _ACTIONS).get(request.get("do"))
            if action is None:
                raise UsageError(f"This session knows no request {request.get('do')!r}.")
            found: dict[str, Any] = action(self, client, request)
        except ClewError as error:
            return error_wire(error)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return {"ok": False, "cause": f"The request is not understood: {error}.", "remedy": ""}
        return {"ok": True, **found}

    def _say(self, client: _Client, answer: dict[str, Any]) -> None:
        try:
            client.socket.setblocking(True)
            client.socket.settimeout(1.0)
            client.socket.sendall(json.dumps(answer).encode() + b"\n")
            client.socket.setblocking(False)
        except OSError:
            self._leave(client)

    def _pass_on(self, event: HoldEvent) -> None:
        for client in list(self._followers):
            self._say(client, event.as_wire())

    def _ps(self, _client: _Client, _request: dict[str, Any]) -> dict[str, Any]:
        armed = [one.rule.text for one in self._session.arming.armed.values()]
        holds = [hold.as_wire() for hold in self._session.book.holds()]
        return {"holds": holds, "rules": armed, "keeper": os.getpid()}

    def _release(self, _client: _Client, request: dict[str, Any]) -> dict[str, Any]:
        if request["hold"] == "all":
            done = self._session.book.release_all("released")
        else:
            done = [self._session.book.release(request["hold"], "released", bool(request.get("force")))]
        return {"holds": [hold.as_wire() for hold in done]}

    def _hand_over(self, client: _Client, request: dict[str, Any]) -> dict[str, Any]:
        debugger = int(request.get("debugger", 0))
        if debugger:
            self._session.stops.spare(debugger, tree=True)
            client.spares.append(debugger)
        return {"hold": self._session.book.hand_over(request["hold"]).as_wire()}

    def _look(self, _client: _Client, request: dict[str, Any]) -> dict[str, Any]:
        hold, registers, stack = self._session.look(request["hold"])
        return {"hold": hold.as_wire(), "registers": registers.hex(), "stack": b64encode(stack).decode()}

    def _arm(self, client: _Client, request: dict[str, Any]) -> dict[str, Any]:
        rules = parse_rules(request["rules"])
        armed = self._session.arming.arm(rules, bool(request.get("under_debugger")))
        if request.get("while_connected"):
            client.rules += [one.number for one in armed]
        return {"numbers": [one.number for one in armed]}

    def _disarm(self, _client: _Client, request: dict[str, Any]) -> dict[str, Any]:
        for number in request["numbers"]:
            self._session.arming.disarm(int(number))
        return {}

    def _renew(self, _client: _Client, request: dict[str, Any]) -> dict[str, Any]:
        hold = self._session.book.renew(request["hold"], request.get("lease_s"))
        return {"hold": hold.as_wire()}

    def _keep(self, _client: _Client, request: dict[str, Any]) -> dict[str, Any]:
        return {"hold": self._session.book.keep(request["hold"]).as_wire()}

    def _hold(self, _client: _Client, request: dict[str, Any]) -> dict[str, Any]:
        return {"hold": self._session.book.hold(request["hold"]).as_wire()}

    def _begin(self, _client: _Client, _request: dict[str, Any]) -> dict[str, Any]:
        self._session.stops.enable()
        return {}

    def _end(self, _client: _Client, request: dict[str, Any]) -> dict[str, Any]:
        self._session.close_down(str(request["reason"]))
        return {}

    def _command(self, _client: _Client, request: dict[str, Any]) -> dict[str, Any]:
        self._session.stops.set_command(int(request["pid"]))
        return {}

    def _events(self, client: _Client, _request: dict[str, Any]) -> dict[str, Any]:
        self._followers.append(client)
        return {}


_ACTIONS = {
    "ps": ControlServer._ps,
    "release": ControlServer._release,
    "handover": ControlServer._hand_over,
    "look": ControlServer._look,
    "arm": ControlServer._arm,
    "disarm": ControlServer._disarm,
    "renew": ControlServer._renew,
    "keep": ControlServer._keep,
    "events": ControlServer._events,
    "hold": ControlServer._hold,
}
_OWNERS_ACTIONS = _ACTIONS | {
    "begin": ControlServer._begin,
    "command": ControlServer._command,
    "end": ControlServer._end,
}


class _Door:
    """The socket in the runtime folder, and the lock that makes it the only one."""

    def __init__(self) -> None:
        folder = runtime_dir()
        self._lock = _take_lock(folder / LOCK)
        self._path = folder / SOCKET
        with suppress(FileNotFoundError):
            self._path.unlink()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(self._path))
        self.socket.listen(64)

    def close(self) -> None:
        """Give the place to another session."""
        self.socket.close()
        with suppress(FileNotFoundError):
            self._path.unlink()
        os.close(self._lock)


class _Client:
    """One connection, and what ends with it."""

    def __init__(self, taken: socket.socket, on_leave: Callable[[], None] | None) -> None:
        self.socket = taken
        self.on_leave = on_leave
        self.buffer = b""
        self.spares: list[int] = []
        self.rules: list[int] = []


def _peer_uid(taken: socket.socket) -> int:
    raw = taken.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])


def _take_lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise HoldError(
            f"A holding session of this user runs already (process {owner}).",
            "Give all rules to one `clew hold`, or end that one; `clew ps` shows what it holds.",
        ) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd
