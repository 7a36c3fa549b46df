"""Talk to the holding session of this user from any other process."""

from __future__ import annotations

import json
import socket
from base64 import b64decode
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from clew.errors import HoldError
from clew.hold.control import SOCKET
from clew.hold.error_wire import error_from_wire
from clew.hold.hold import Hold, HoldEvent
from clew.kernel.runtime_dir import runtime_dir

_ANSWER_S = 30.0


class NoSession(HoldError):
    """There is no holding session to talk to."""


def _connected() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.connect(str(runtime_dir() / SOCKET))
    except OSError as error:
        made.close()
        raise NoSession(
            "Nothing is held: no `clew hold` of this user runs.",
            "Start one in another terminal, such as: clew hold exec:PROGRAM",
        ) from error
    return made


class HoldClient:
    """A connection to the session: one that is made already, or to this user's.  NoSession if there is none.

    Every request raises the ClewError that the session gives, HoldError if it does not answer.
    """

    def __init__(self, connected: socket.socket | None = None) -> None:
        self._socket = connected or _connected()
        self._socket.settimeout(_ANSWER_S)
        self._file = self._socket.makefile("rb")

    def request(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send one request and return its answer."""
        try:
            self._socket.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
            line = self._file.readline()
        except OSError as error:
            raise HoldError(f"The holding session does not answer: {error}.") from error
        if not line:
            raise HoldError("The holding session ended.", "What it held has been let go.")
        answer: dict[str, Any] = json.loads(line)
        if not answer.pop("ok"):
            raise error_from_wire(answer)
        return answer

    def holds(self) -> list[Hold]:
        """Everything held now."""
        return [Hold.from_wire(wire) for wire in self.request("ps")["holds"]]

    def release(self, hold_id: str, force: bool = False) -> list[Hold]:
        """Let one go, or with "all" everything; those that were held."""
        answer = self.request("release", hold=hold_id, force=force)
        return [Hold.from_wire(wire) for wire in answer["holds"]]

    def hand_over(self, hold_id: str, debugger: int = 0) -> Hold:
        """Leave it plainly stopped.

        As long as we stay connected, process ``debugger`` and what it starts are not held.
        """
        return Hold.from_wire(self.request("handover", hold=hold_id, debugger=debugger)["hold"])

    def look(self, hold_id: str) -> tuple[Hold, bytes, bytes]:
        """The hold, its registers as a ``struct pt_regs``, and its stack unless anybody can read that."""
        answer = self.request("look", hold=hold_id)
        return (
            Hold.from_wire(answer["hold"]),
            bytes.fromhex(answer["registers"]),
            b64decode(answer.get("stack", "")),
        )

    def renew(self, hold_id: str, lease_s: float | None = None) -> Hold:
        """Begin its lease anew."""
        return Hold.from_wire(self.request("renew", hold=hold_id, lease_s=lease_s)["hold"])

    def events(self, began: Callable[[], None] = lambda: None) -> Iterator[HoldEvent]:
        """What happens from now on (``began`` is called), until the session ends.

        Nothing else can be asked on this connection.
        """
        self.request("events")
        began()
        self._socket.settimeout(None)
        for line in self._file:
            yield HoldEvent.from_wire(json.loads(line))

    def close(self) -> None:
        """Disconnect."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> HoldClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
