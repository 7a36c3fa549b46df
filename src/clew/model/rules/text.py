"""Rules as they are shown: nothing that moves a cursor, and a caret under the fault."""

from __future__ import annotations

import unicodedata

from clew.errors import RuleError


def shown(text: str | bytes) -> str:
    """``text`` on one line, with control, bidi and undecodable characters written as escapes.

    A rule file, an argv and a path are as hostile as whoever wrote them.
    """
    decoded = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    return "".join(map(_visible, decoded))


def caret(error: RuleError, indent: str = "    ") -> str:
    """The rule and, on the line under it, ``^`` at the fault.

    >>> print(caret(RuleError("exce:gdb", 0, "There is no exce rule."), indent=""))
    exce:gdb
    ^
    """
    before = shown(error.rule[: error.position])
    return f"{indent}{shown(error.rule)}\n{indent}{' ' * _columns(before)}^"


def _visible(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{{{code:x}}}"


def _columns(text: str) -> int:
    """Terminal columns: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )
