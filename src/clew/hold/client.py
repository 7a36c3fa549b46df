"""Talk to the holding session of this user from any other process."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from clew.errors import HoldError
from clew.hold.control import SOCKET
from clew.hold.hold import Hold, HoldEvent
from clew.kernel.runtime_dir import runtime_dir

_ANSWER_S = 30.0


class NoSession(HoldError):
    """There is no holding session to talk to."""


class HoldClient:
    """A connection to the session.  Raises NoSession if there is none.

    Every request raises HoldError with the cause the session gives.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_ANSWER_S)
        try:
            self._socket.connect(str(runtime_dir() / SOCKET))
        except OSError as error:
            self._socket.close()
            raise NoSession(
                "Nothing is held: no `clew hold` of this user runs.",
                "Start one in another terminal, such as: clew hold exec:PROGRAM",
            ) from error
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
            raise HoldError(answer["cause"], answer["remedy"])
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

    def look(self, hold_id: str) -> tuple[Hold, bytes]:
        """The hold, and its registers as a ``struct pt_regs``."""
        answer = self.request("look", hold=hold_id)
        return Hold.from_wire(answer["hold"]), bytes.fromhex(answer["registers"])

    def events(self) -> Iterator[HoldEvent]:
        """What happens from now on, until the session ends.  Nothing else can be asked on this connection."""
        self.request("events")
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
