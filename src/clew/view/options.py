"""What a caller may ask of a view."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from clew.model.frame import Backtrace

Pick = Callable[[Backtrace], Backtrace]
"""Chooses from a backtrace the frames that say something, innermost first (``clew.stack.says``)."""


class Stream(Protocol):
    """The part of a text stream that decides how to print on it."""

    @property
    def encoding(self) -> str | None: ...
    def isatty(self) -> bool: ...


Source = Callable[[str, int], "tuple[int, list[str]] | None"]
"""Some lines of a source file around one: the first one's number, and the lines; None if it cannot be had."""


def no_source(_file: str, _line: int) -> None:
    """The ``source`` of a caller that has none."""
    return


def whole_backtrace(backtrace: Backtrace) -> Backtrace:
    """The ``pick`` of a caller that has none."""
    return backtrace


@dataclass(frozen=True, slots=True)
class Options:
    """How to show a flow; each view uses the fields that mean something to it.

    ``whole`` shows all of the flow where there is a path, too.  ``verbose`` shows all frames, arguments
    and folded hops, ``quiet`` the path and nothing that can be done without.  ``trace`` is the name of
    the recording as the user wrote it, for commands to paste; "" if it was not kept.  ``width`` is in
    terminal columns.  ``color`` and ``ascii`` (no characters beyond ASCII of our own) are for text.
    """

    pick: Pick = whole_backtrace
    source: Source = no_source
    whole: bool = False
    verbose: bool = False
    quiet: bool = False
    trace: str = ""
    width: int = 80
    color: bool = False
    ascii: bool = False


def stream_color(stream: Stream, environ: Mapping[str, str]) -> bool:
    """Whether to colour: only on a terminal that can, and never with NO_COLOR (https://no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def stream_width(stream: Stream) -> int:
    """Columns to fill: those of the terminal (or $COLUMNS), 80 for a pipe or a file."""
    return max(shutil.get_terminal_size((80, 24)).columns, 40) if stream.isatty() else 80


def stream_ascii(stream: Stream) -> bool:
    """Whether arrows and the like cannot be written to it."""
    try:
        "→›…×".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return True
    return False
