"""The question that ``clew hold`` asks in a terminal: what to do with the oldest hold not yet decided on."""

from __future__ import annotations

import sys
from collections import deque


class Question:
    """One question at a time, on stderr; what is printed meanwhile pushes it down."""

    def __init__(self) -> None:
        self._about: deque[str] = deque()
        self._open = False

    @property
    def about(self) -> str:
        """The hold it is about; "" if there is nothing to ask."""
        return self._about[0] if self._about else ""

    def add(self, hold_id: str) -> None:
        """There is a new hold to ask about."""
        self._about.append(hold_id)

    def drop(self, hold_id: str) -> None:
        """That hold was decided on, here or elsewhere."""
        if hold_id in self._about:
            if hold_id == self.about:
                self.make_room()
            self._about.remove(hold_id)

    def make_room(self) -> None:
        """Something else is to be printed: end the question's line."""
        if self._open:
            print(file=sys.stderr, flush=True)
            self._open = False

    def answered(self) -> None:
        """A line was typed, which ended the question's."""
        self._open = False

    def show(self) -> None:
        """Ask, unless the question stands there already."""
        if self._about and not self._open:
            text = f"  {self.about}: release (r), backtrace (b), gdb (g), or leave it (Enter)? "
            print(text, end="", file=sys.stderr, flush=True)
            self._open = True
