"""A holding session: the thread that learns of stopped tasks, keeps them, and lets them go.

One thread does all of it, because a ptrace tracee belongs to a thread; others ask it through ``call``.  Its
loop waits for news from the kernel, for requests, for the ends of processes, and looks over all holds now
and then: whatever was missed is found then.
"""

from __future__ import annotations

import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from clew.code import reader
from clew.engine.stops import Stops
from clew.errors import HoldError
from clew.hold.arming import Arming
from clew.hold.backing import Backing, BpfBacking
from clew.hold.book import Book
from clew.hold.control import ControlServer
from clew.hold.describe import stack_at, stack_pointer
from clew.hold.hold import Hold, HoldEvent
from clew.hold.keeping import Keeper
from clew.hold.options import HoldOptions
from clew.hold.registers import registers_of
from clew.kernel.inotify import FolderWatch
from clew.model.rules.rule import RuleSet

Answer = TypeVar("Answer")
Listener = Callable[[HoldEvent], None]

_LOOK_OVER_S = 0.5
_SETTLE_S = 0.002
_WARN_S = 1.0
_PART_S = 1.0
_PRIORITY = -15


class HoldSession:
    """Holds tasks by rules from ``start`` to ``close``.

    Raises what loading the probes and arming the rules raise; nothing is held then.
    """

    tracer = 0

    def __init__(
        self,
        rules: RuleSet,
        options: HoldOptions | None = None,
        backing: Backing | None = None,
        control: bool = False,
    ) -> None:
        self.options = options or HoldOptions()
        self._listeners: list[Listener] = []
        self._calls: deque[Callable[[], None]] = deque()
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = self._rest = False
        self._over = self._fatal = 0
        self._next_look = self._next_warning = 0.0
        # Before there are several threads: it is forked then.
        spare = (*self.options.spare, reader.start().pid)
        self.backing = backing or BpfBacking(self.options.most, spare)
        try:
            command = self.options.command[0] if self.options.command else b""
            scope, confirm = self.options.scope, self.options.confirm
            self.arming = Arming(self.stops, command, self.options.pids, scope, confirm)
            self.arming.arm(rules, self.options.under_debugger)
            self.control = ControlServer(self, control)
            self.backing.ready()
        except BaseException:
            self.backing.close()
            reader.stop()
            raise
        self.book = Book(self)
        self._folders = FolderWatch()
        self._thread = threading.Thread(target=self._run, name="clew-hold", daemon=True)

    @property
    def stops(self) -> Stops:
        """The engine's stops."""
        return self.backing.stops

    @property
    def keeper(self) -> Keeper:
        """How tasks are kept."""
        return self.backing.keeper

    def start(self, enabled: bool = True) -> None:
        """From now on tasks are held; unless ``enabled``, when ``stops.enable`` is called."""
        self.watch(self._wake, self._woken)
        self.watch(self.stops.news_fd, self._news)
        if self._folders.fileno() >= 0:
            self.watch(self._folders.fileno(), self._files_changed)
        self._watch_folders()
        self._thread.start()
        self.backing.begin()
        if enabled:
            self.call(self.stops.enable)
        # Last: an answer on the control socket means that rules are in force.
        self.call(self.control.start)

    def notes(self) -> list[str]:
        """What a rule that is in force cannot do, in a sentence each."""
        return self.arming.notes()

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` for each event, in the session's thread: it must not block."""
        self._listeners.append(listener)

    def tell(self, event: HoldEvent) -> None:
        """Give an event to every listener."""
        for listener in list(self._listeners):
            listener(event)

    def call(self, function: Callable[[], Answer], timeout_s: float = 30.0) -> Answer:
        """Run ``function`` in the session's thread and return its answer, or raise its exception."""
        if threading.current_thread() is self._thread:
            return function()
        answer: Future[Answer] = Future()

        def run() -> None:
            try:
                answer.set_result(function())
            except BaseException as error:
                answer.set_exception(error)

        if not self._thread.is_alive() or self._stopping:
            raise HoldError("This holding session has ended.")
        self._calls.append(run)
        os.eventfd_write(self._wake, 1)
        return answer.result(timeout_s)

    def holds(self) -> list[Hold]:
        """Everything held now, oldest first."""
        return self.call(self.book.holds)

    def hold(self, hold_id: str) -> Hold:
        """One hold, as it is now.  HoldError if there is none of that name."""
        return self.call(lambda: self.book.hold(hold_id))

    def look(self, hold_id: str) -> tuple[Hold, bytes, bytes]:
        """The hold, its registers (``struct pt_regs``) and its stack, b"" where anybody can read that."""
        return self.call(lambda: self._look(hold_id))

    def _look(self, hold_id: str) -> tuple[Hold, bytes, bytes]:
        hold = self.book.hold(hold_id)
        registers = registers_of(hold)
        return hold, registers, stack_at(hold.pid, stack_pointer(registers)) if hold.kept == "ptrace" else b""

    def hand_over(self, hold_id: str) -> Hold:
        """Leave it plainly stopped, for a debugger to attach."""
        return self.call(lambda: self.book.hand_over(hold_id))

    def renew(self, hold_id: str, lease_s: float | None = None) -> Hold:
        """Begin its lease anew."""
        return self.call(lambda: self.book.renew(hold_id, lease_s))

    def set_command(self, pid: int) -> None:
        """The command waits at its gate as process ``pid``: what ``tree=cmd`` means."""
        self.call(lambda: self.stops.set_command(pid))

    def admit(self) -> None:
        """To be called in a child that is about to exec, so that it can be held.  Here: nothing is needed."""

    def release(self, hold_id: str, force: bool = False) -> Hold:
        """Let one go.  HoldError if there is no such hold, or a debugger has it (unless ``force``)."""
        return self.call(lambda: self.book.release(hold_id, "released", force))

    def release_all(self) -> list[Hold]:
        """Let everything go, what debuggers have too."""
        return self.call(lambda: self.book.release_all("released"))

    def close(self, reason: str = "clew hold ended") -> None:
        """Hold nobody more, let everything go, end the thread and the guardian."""
        with suppress(HoldError):
            self.call(lambda: self.close_down(reason))
        if self._thread.is_alive():
            self._thread.join()
        self.backing.close(self._rest)
        self.control.close()
        self._folders.close()
        self._selector.close()
        os.close(self._wake)
        reader.stop()

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """Have ``ready`` called in the session's thread when ``fd`` is readable."""
        self._selector.register(fd, selectors.EVENT_READ, ready)

    def unwatch(self, fd: int) -> None:
        """Take ``watch`` back."""
        with suppress(KeyError, ValueError):
            self._selector.unregister(fd)

    def end(self, reason: str) -> None:
        """As ``close``, but without waiting for it."""
        self._calls.append(lambda: self.close_down(reason))
        os.eventfd_write(self._wake, 1)

    def join(self) -> None:
        """Return when the session has ended."""
        self._thread.join()

    def close_down(self, reason: str) -> None:
        """In the session's thread: hold nobody more, let everything go, and end the thread."""
        if self._stopping:
            return
        self.stops.enable(False)
        self._news()
        self.book.release_all(reason)
        self._stopping = True
        self.backing.leave()
        self._rest = not self.book.partings.wait(_PART_S)

    def _run(self) -> None:
        # Held tasks wait for this thread, on a machine that may be busy with what they belong to.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _PRIORITY)
        try:
            self._serve()
        except BaseException as error:
            # Whatever went wrong in here, nobody may stay stopped for it.
            self._stopping = True
            self.stops.enable(False)
            self._rest = True
            self.book.release_all("clew failed")
            self.backing.leave()
            self.tell(HoldEvent("warning", reason=f"Holding has ended by a fault in clew: {error!r}"))
            raise
        finally:
            self._run_calls()

    def _serve(self) -> None:
        while not self._stopping:
            for key, _events in self._selector.select(self._pause()):
                key.data()
            self._run_calls()
            self.book.settle()
            now = time.monotonic()
            if now >= self._next_look:
                self._look_over(now)

    def _pause(self) -> float:
        if self.book.unsettled:
            return _SETTLE_S
        until = max(self._next_look - time.monotonic(), 0.0)
        return min(until, self.book.partings.pause_s()) if self.book.partings else until

    def _run_calls(self) -> None:
        while self._calls:
            self._calls.popleft()()

    def _woken(self) -> None:
        os.eventfd_read(self._wake)

    def _watch_folders(self) -> None:
        for folder in self.arming.folders():
            self._folders.add(folder)

    def _files_changed(self) -> None:
        """A file that holds places of rules may have been replaced (by a package upgrade, a build)."""
        if self._folders.changed():
            self.arming.look_again()
            self._watch_folders()

    def _news(self) -> None:
        for tid in self.stops.take_news():
            self.book.take_up(tid)

    def _look_over(self, now: float) -> None:
        """Find what no event told: notes whose news was lost, holds that ended or outlived their lease."""
        self._next_look = now + _LOOK_OVER_S
        self._take_pulse()
        for note in self.stops.all_held():
            self.book.take_up(note.tid)
        self.book.look_over(now)
        self.stops.drop_used_up()
        counts = self.stops.counts()
        over = counts.over
        if counts.fatal > self._fatal:
            died, self._fatal = counts.fatal - self._fatal, counts.fatal
            self.tell(HoldEvent("warning", reason=_without_handler(died)))
        if over > self._over and now >= self._next_warning:
            self._next_warning = now + _WARN_S
            missed, self._over = over - self._over, over
            self.tell(HoldEvent("warning", reason=_past_the_cap(missed, self.options.most)))

    def _take_pulse(self) -> None:
        """Without a guardian nobody is held."""
        try:
            news = self.backing.pulse()
        except HoldError as error:
            self.close_down(error.cause)
            return
        if news:
            self.tell(HoldEvent("warning", reason=news))


def _without_handler(died: int) -> str:
    who = "A process" if died == 1 else f"{died} processes"
    return (
        f"{who} matched a rule and died of the signal before clew could stop it: of signals sent by"
        " others, and on kernels before 6.18, only handlers are sure to be held."
    )


def _past_the_cap(missed: int, most: int) -> str:
    return (
        f"{missed} more {'task' if missed == 1 else 'tasks'} matched and ran on:"
        f" {most} are held, as many as --max-held allows."
    )
