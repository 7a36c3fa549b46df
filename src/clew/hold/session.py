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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from clew.engine.bpf.hold_probes import HoldProbes
from clew.errors import ClewError, HoldError
from clew.hold.arming import Arming
from clew.hold.book import Book
from clew.hold.hold import DEFAULT_LEASE_S, DEFAULT_MOST, Hold, HoldEvent
from clew.hold.leftovers import drop_notes, keep_notes
from clew.hold.spared import spare_own
from clew.hold.watched import Guardian
from clew.kernel.inotify import FolderWatch
from clew.model.rules.rule import RuleSet

Answer = TypeVar("Answer")
Listener = Callable[[HoldEvent], None]

_LOOK_OVER_S = 0.5
_SETTLE_S = 0.002
_WARN_S = 1.0
_PRIORITY = -15


@dataclass(frozen=True, slots=True)
class HoldOptions:
    """How to hold.

    ``scope`` "auto": the thread for call, at, syscall and signal rules, the process for the others.
    ``lease_s`` is how long a hold lasts if nobody cares for it; ``most`` how many there are at once.
    ``command`` is what clew will start (its files are looked through for functions).  ``spare`` are
    processes that are not held, nor what they start.  ``serves`` is a process with whose end the session
    ends, 0: none.
    """

    scope: Literal["auto", "thread", "process"] = "auto"
    lease_s: float = DEFAULT_LEASE_S
    most: int = DEFAULT_MOST
    command: tuple[bytes, ...] = ()
    under_debugger: bool = False
    spare: tuple[int, ...] = field(default=())
    serves: int = 0


class HoldSession:
    """Holds tasks by rules from ``start`` to ``close``.

    Raises what loading the probes and arming the rules raise; nothing is held then.
    """

    def __init__(self, rules: RuleSet, options: HoldOptions | None = None) -> None:
        self.options = options or HoldOptions()
        self._listeners: list[Listener] = []
        self._calls: deque[Callable[[], None]] = deque()
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = False
        self._pin: Path | None = None
        self._over = self._fatal = 0
        self._next_look = self._next_warning = 0.0
        self.probes = HoldProbes(self.options.most)
        try:
            self.guardian = Guardian(self.probes.held_fd, self.probes.settings_fd)
            self.probes.spare(self.guardian.pid, tree=True)
            spare_own(self.probes)
            for pid in self.options.spare:
                self.probes.spare(pid, tree=True)
            command = self.options.command[0] if self.options.command else b""
            self.arming = Arming(self.probes, command)
            self.arming.arm(rules, self.options.under_debugger)
            self.guardian.wait_ready()
        except BaseException:
            self.probes.close()
            raise
        self.book = Book(self)
        self._folders = FolderWatch()
        self._thread = threading.Thread(target=self._run, name="clew-hold", daemon=True)

    def start(self) -> None:
        """From now on tasks are held."""
        self.watch(self._wake, self._woken)
        self.watch(self.probes.news_fd, self._news)
        self.watch(self.guardian.fileno(), self._guardian_ended)
        if self._folders.fileno() >= 0:
            self.watch(self._folders.fileno(), self._files_changed)
        self._watch_folders()
        self._thread.start()
        self._pin = keep_notes(self.probes)
        self.call(self.probes.enable)

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

    def release(self, hold_id: str, force: bool = False) -> Hold:
        """Let one go.  HoldError if there is no such hold, or a debugger has it (unless ``force``)."""
        return self.call(lambda: self.book.release(hold_id, "released", force))

    def release_all(self) -> list[Hold]:
        """Let everything go, what debuggers have too."""
        return self.call(lambda: self.book.release_all("released"))

    def close(self, reason: str = "clew hold ended") -> None:
        """Hold nobody more, let everything go, end the thread and the guardian."""
        with suppress(HoldError):
            self.call(lambda: self._end(reason))
        if self._thread.is_alive():
            self._thread.join()
        self.probes.close()
        drop_notes(self._pin)
        self.guardian.close()
        self._folders.close()
        self._selector.close()
        os.close(self._wake)

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """Have ``ready`` called in the session's thread when ``fd`` is readable."""
        self._selector.register(fd, selectors.EVENT_READ, ready)

    def unwatch(self, fd: int) -> None:
        """Take ``watch`` back."""
        with suppress(KeyError, ValueError):
            self._selector.unregister(fd)

    def _end(self, reason: str) -> None:
        self.probes.enable(False)
        self._news()
        self.book.release_all(reason)
        self._stopping = True

    def _run(self) -> None:
        # Held tasks wait for this thread, on a machine that may be busy with what they belong to.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _PRIORITY)
        try:
            self._serve()
        except BaseException as error:
            # Whatever went wrong in here, nobody may stay stopped for it.
            self._stopping = True
            self.probes.enable(False)
            self.book.release_all("clew failed")
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
        return max(self._next_look - time.monotonic(), 0.0)

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
        for tid in self.probes.take_news():
            self.book.take_up(tid)

    def _look_over(self, now: float) -> None:
        """Find what no event told: notes whose news was lost, holds that ended or outlived their lease."""
        self._next_look = now + _LOOK_OVER_S
        for note in self.probes.all_held():
            self.book.take_up(note.tid)
        self.book.look_over(now)
        counts = self.probes.counts()
        over = counts.over
        if counts.fatal > self._fatal:
            died, self._fatal = counts.fatal - self._fatal, counts.fatal
            self.tell(HoldEvent("warning", reason=_without_handler(died)))
        if over > self._over and now >= self._next_warning:
            self._next_warning = now + _WARN_S
            missed, self._over = over - self._over, over
            self.tell(HoldEvent("warning", reason=_past_the_cap(missed, self.options.most)))

    def _guardian_ended(self) -> None:
        """Somebody ended the guardian: put another one in its place, or hold nobody."""
        self.unwatch(self.guardian.fileno())
        self.guardian.close()
        try:
            self.guardian = Guardian(self.probes.held_fd, self.probes.settings_fd)
            self.probes.spare(self.guardian.pid, tree=True)
            self.guardian.wait_ready()
        except (OSError, ClewError):
            self._end("the guardian could not be started again")
            return
        self.watch(self.guardian.fileno(), self._guardian_ended)
        self.tell(HoldEvent("warning", reason="Somebody ended the guardian; another one took its place."))


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
