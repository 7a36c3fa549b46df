"""What stands behind a session: an engine's stops, how tasks are kept, who lets them go if we are killed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Protocol

from clew.engine.bpf.hold_probes import HoldProbes
from clew.engine.stops import Stops
from clew.errors import ClewError, HoldError
from clew.hold.keeping import Keeper, SignalKeeper
from clew.hold.leftovers import drop_notes, keep_notes
from clew.hold.spared import spare_own
from clew.hold.watched import Guardian
from clew.model.task import TaskId


class Backing(Protocol):
    """An engine as a holding session needs it."""

    @property
    def stops(self) -> Stops: ...
    @property
    def keeper(self) -> Keeper: ...
    def ready(self) -> None:
        """Return when tasks may be held; HoldError if whoever would let them go does not come up."""

    def begin(self) -> None:
        """The session's thread runs."""

    def pulse(self) -> str:
        """What is to be told of the guardian, "" if nothing is.  HoldError: there can be none."""

    def holds(self, task: TaskId) -> None:
        """A hold begins."""

    def let_go(self, task: TaskId) -> None:
        """A hold has ended."""

    def leave(self) -> None:
        """In the session's thread, its last act: everything was let go."""

    def close(self, rest: bool = False) -> None:
        """Stop nobody more, and end what was started; ``rest``: somebody who was let go does not run yet."""


class BpfBacking:
    """Probes, and a guardian: a SIGSTOP outlives whoever sent it."""

    def __init__(self, most: int, spare: tuple[int, ...]) -> None:
        self.stops = HoldProbes(most)
        self.keeper = SignalKeeper(self.stops.let_pass)
        self._pin: Path | None = None
        try:
            self.guardian = Guardian(self.stops.held_fd, self.stops.settings_fd)
            spare_own(self.stops)
            for pid in (self.guardian.pid, *spare):
                self.stops.spare(pid, tree=True)
        except BaseException:
            self.stops.close()
            raise

    def ready(self) -> None:
        """See ``Backing``."""
        self.guardian.wait_ready()

    def begin(self) -> None:
        """Have the kernel keep the notes, for the worst case."""
        self._pin = keep_notes(self.stops)

    def pulse(self) -> str:
        """Put another guardian in the place of one that somebody ended."""
        if not self.guardian.has_ended():
            return ""
        self.guardian.close()
        try:
            self.guardian = Guardian(self.stops.held_fd, self.stops.settings_fd)
            self.stops.spare(self.guardian.pid, tree=True)
            self.guardian.wait_ready()
        except (OSError, ClewError) as error:
            raise HoldError("the guardian could not be started again") from error
        return "Somebody ended the guardian; another one took its place."

    def holds(self, task: TaskId) -> None:
        """See ``Backing``."""
        self.guardian.holds(task)

    def let_go(self, task: TaskId) -> None:
        """See ``Backing``."""
        self.guardian.let_go(task)

    def leave(self) -> None:
        """Nothing: probes belong to no thread."""

    def close(self, rest: bool = False) -> None:
        """See ``Backing``.  Whoever is left is the guardian's, and so is the pin."""
        self.stops.close()
        if not rest:
            drop_notes(self._pin)
        with suppress(OSError):
            self.guardian.close(rest)
