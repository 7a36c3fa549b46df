"""Hold tasks from Python.

    import clew

    with clew.holding("exec:qemu-system-*") as holds:
        subprocess.Popen(["virsh", "start", "vm"])
        held = holds.wait(timeout=10)
        print(held.backtrace())
        held.release()

Needs what ``clew hold`` needs (``clew doctor`` says).  When the block ends, everything is let go; when the
process dies, a guardian does it.
"""

from __future__ import annotations

import os
import queue
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal

from clew.errors import HoldError
from clew.hold.backtrace import backtrace
from clew.hold.hold import DEFAULT_LEASE_S, DEFAULT_MOST, Hold, HoldEvent
from clew.hold.options import HoldOptions
from clew.hold.sessions import Session, open_session
from clew.kernel.syscalls import numbers
from clew.model.frame import Backtrace
from clew.model.rules import RuleSet, Vocabulary, parse_rules

Scope = Literal["auto", "thread", "process"]
Engine = Literal["auto", "bpf", "ptrace"]


class HeldTask:
    """A task that stands still for us.  ``hold`` is what was known when it was stopped."""

    def __init__(self, session: Session, hold: Hold) -> None:
        self._session = session
        self.hold = hold

    @property
    def id(self) -> str:
        """Its name in other commands: ``H1``."""
        return self.hold.id

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.hold.pid

    @property
    def tid(self) -> int:
        """Its thread id."""
        return self.hold.tid

    def now(self) -> Hold:
        """As it is now: lease left, debugger.  HoldError if it is no longer held."""
        return self._session.hold(self.id)

    def registers(self) -> bytes:
        """Its registers, a ``struct pt_regs``.  Raises as ``backtrace`` does."""
        return self._session.look(self.id)[1]

    def backtrace(self, lines: bool = True) -> Backtrace:
        """Its frames, innermost first; without ``lines`` quicker, and without files and lines.

        Raises HoldError if it is no longer held, or a debugger has it.
        """
        return backtrace(*self._session.look(self.id), lines)

    def hand_over(self) -> Hold:
        """Leave it plainly stopped (state T), so that any debugger can attach.  It is still held."""
        return self._session.hand_over(self.id)

    def renew(self, lease_s: float | None = None) -> None:
        """Begin its lease anew, in seconds; the session's own length by default."""
        self._session.renew(self.id, lease_s)

    def release(self, force: bool = False) -> None:
        """Let it run.  HoldError if it is no longer held, or (without ``force``) a debugger has it."""
        self._session.release(self.id, force)

    def __repr__(self) -> str:
        return f"<{self.id}: {self.hold.rule} held task {self.tid} of process {self.pid}>"


class Holding:
    """Rules in force, and the tasks they hold, for as long as the ``with`` block lasts."""

    def __init__(self, rules: RuleSet, options: HoldOptions, engine: str, control: bool) -> None:
        self._rules, self._options, self._engine, self._control = rules, options, engine, control
        self._events: queue.SimpleQueue[HoldEvent] = queue.SimpleQueue()
        self._session: Session | None = None

    def __enter__(self) -> Holding:
        session, _why = open_session(self._rules, self._options, self._engine, self._control)
        try:
            session.listen(self._events.put)
            session.start()
        except BaseException:
            session.close()
            raise
        self._session = session
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close("the block that held it ended")

    def start(
        self, command: Sequence[str | bytes | os.PathLike[str]], **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a program that can be held, from its exec on; ``options`` are those of subprocess.Popen.

        With the bpf engine that is anybody's program; the ptrace engine holds only these, what they start,
        and the processes of ``pids``.
        """
        before = options.pop("preexec_fn", None)
        admit = self.session.admit

        def enter() -> None:
            if before is not None:
                before()
            admit()

        if self.session.tracer or before:
            options["preexec_fn"] = enter
        return subprocess.Popen(command, **options)

    @property
    def session(self) -> Session:
        """What does the work.  HoldError outside the ``with`` block."""
        if self._session is None:
            raise HoldError(
                "Nothing is held outside the with block.", "Write: with clew.holding(…) as holds:"
            )
        return self._session

    def wait(self, timeout: float | None = None) -> HeldTask:
        """The next task that is held, waiting at most ``timeout`` seconds.  TimeoutError if there is none."""
        for event in self.events(timeout):
            if event.event == "held" and event.hold is not None:
                return HeldTask(self.session, event.hold)
        raise TimeoutError(f"Nothing was held within {timeout} s.")

    def events(self, timeout: float | None = None) -> Iterator[HoldEvent]:
        """Holds, releases and warnings as they happen; ends when none came for ``timeout`` seconds."""
        while True:
            try:
                yield self._events.get(timeout=timeout)
            except queue.Empty:
                return

    def held(self) -> list[HeldTask]:
        """Everything held now, oldest first."""
        return [HeldTask(self.session, hold) for hold in self.session.holds()]

    def release_all(self) -> list[Hold]:
        """Let everything go, what debuggers have too."""
        return self.session.release_all()

    def __iter__(self) -> Iterator[HeldTask]:
        return iter(self.held())


def holding(
    *rules: str,
    scope: Scope = "auto",
    engine: Engine = "auto",
    pids: Iterable[int] = (),
    lease: float = DEFAULT_LEASE_S,
    max_held: int = DEFAULT_MOST,
    command: Iterable[bytes] = (),
    uid_of: Callable[[str], int | None] | None = None,
    control: bool = True,
) -> Holding:
    """Hold what ``rules`` name, as ``clew hold`` does, while the returned object's block lasts.

    ``scope`` "thread" holds the one that hit, "process" all of it, "auto" whichever suits the rule;
    ``lease`` is in seconds; ``max_held`` how many at once.  ``command`` is a program that will be started:
    its files are looked through for functions.  ``engine`` "auto" is "bpf" where that is permitted, else
    "ptrace", which needs no privilege.  Rules are narrowed to ``pids``, if there are any, and what descends
    from them; "ptrace" holds only these, and what ``Holding.start`` started.  With ``control``, other
    terminals see the holds (``clew ps``), of which there can be one session for each user.

    Raises RuleError; on entering, SymbolNotFound, PermissionMissing, EngineError, HoldError.
    """
    import platform
    import pwd

    def uid(name: str) -> int | None:
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            return None

    words = Vocabulary(numbers(platform.machine()), uid_of or uid)
    meant = parse_rules(rules, words)
    return Holding(meant, HoldOptions(scope, lease, max_held, tuple(command), tuple(pids)), engine, control)
