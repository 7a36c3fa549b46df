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
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clew.errors import ClewError, HoldError, UsageError
from clew.hold.hold import HoldEvent
from clew.hold.registers import registers_of
from clew.kernel.runtime_dir import runtime_dir
from clew.model.rules.parse import parse_rules

if TYPE_CHECKING:
    from clew.hold.session import HoldSession

SOCKET, LOCK = "hold.sock", "hold.lock"
_LONGEST_REQUEST = 1 << 20
_CREDENTIALS = struct.Struct("=iII")


class ControlServer:
    """Answers for ``session``, in its thread.  There is one for each user at a time.

    Raises HoldError if another session has the runtime folder, PermissionMissing if there can be none.
    """

    def __init__(self, session: HoldSession) -> None:
        self._session = session
        self._folder = runtime_dir()
        self._lock = _take_lock(self._folder / LOCK)
        self._path = self._folder / SOCKET
        with suppress(FileNotFoundError):
            self._path.unlink()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(self._path))
        self._socket.listen(64)
        self._clients: dict[int, _Client] = {}
        self._followers: list[_Client] = []

    def start(self) -> None:
        """Answer from now on.  To be called before the session starts, or in its thread."""
        self._session.watch(self._socket.fileno(), self._accept)
        self._session.listen(self._pass_on)

    def close(self) -> None:
        """Answer nobody more.  To be called after the session has ended."""
        for client in list(self._clients.values()):
            client.socket.close()
        self._socket.close()
        with suppress(FileNotFoundError):
            self._path.unlink()
        os.close(self._lock)

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            taken, _ = self._socket.accept()
            if _peer_uid(taken) not in (0, os.geteuid()):
                taken.close()
                return
            taken.setblocking(False)
            client = _Client(taken)
            self._clients[taken.fileno()] = client
            self._session.watch(taken.fileno(), lambda: self._hear(client))

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
            self._session.probes.unspare(pid)
        for number in client.rules:
            self._session.arming.disarm(number)
        client.socket.close()

    def _answer(self, client: _Client, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            action = _ACTIONS.get(request.get("do"))
            if action is None:
                raise UsageError(f"This session knows no request {request.get('do')!r}.")
            found: dict[str, Any] = action(self, client, request)
        except ClewError as error:
            return {"ok": False, "cause": error.cause, "remedy": error.remedy}
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
            self._session.probes.spare(debugger, tree=True)
            client.spares.append(debugger)
        return {"hold": self._session.book.hand_over(request["hold"]).as_wire()}

    def _look(self, _client: _Client, request: dict[str, Any]) -> dict[str, Any]:
        hold = self._session.book.hold(request["hold"])
        return {"hold": hold.as_wire(), "registers": registers_of(hold).hex()}

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
}


class _Client:
    """One connection, and what ends with it."""

    def __init__(self, taken: socket.socket) -> None:
        self.socket = taken
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
