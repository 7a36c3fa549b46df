"""Tasks that were let go and are not sure to run yet: they are told to until they do."""

from __future__ import annotations

import time
from collections.abc import Callable

from clew.hold.guardian import Parting
from clew.model.task import TaskId

_AGAIN_S, _SELDOM_S = 0.01, 0.25


class Partings:
    """Whom a session has let go.  ``over`` is called for each when it runs, or is gone.

    ``held_again`` says whether a process is stopped by a new hold: then it is not ours to continue.
    """

    def __init__(self, over: Callable[[TaskId], None], held_again: Callable[[int], bool]) -> None:
        self._over, self._held_again = over, held_again
        self._left: dict[TaskId, Parting] = {}
        self._next = 0.0

    def __bool__(self) -> bool:
        return bool(self._left)

    def add(self, task: TaskId) -> None:
        """It was let go: see that it runs."""
        try:
            self._left[task] = Parting((task.pid, task.tid, task.start_ns))
        except OSError:
            self._over(task)
        self._next = 0.0

    def pause_s(self) -> float:
        """How soon to look again."""
        return max(self._next - time.monotonic(), 0.0)

    def look(self) -> None:
        """Tell those again that do not run."""
        now = time.monotonic()
        if not self._left or now < self._next:
            return
        for task, parting in list(self._left.items()):
            if self._held_again(task.pid) or parting.step():
                parting.close()
                del self._left[task]
                self._over(task)
        pressing = any(not parting.traced for parting in self._left.values())
        self._next = now + (_AGAIN_S if pressing else _SELDOM_S)

    def wait(self, seconds: float) -> bool:
        """Look until nobody is left or ``seconds`` are over; whether nobody is."""
        until = time.monotonic() + seconds
        while self._left and time.monotonic() < until:
            self.look()
            if self._left:
                time.sleep(min(self.pause_s(), _AGAIN_S))
        return not self._left
