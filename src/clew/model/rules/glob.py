"""Patterns over bytes: ``*``, ``?``, ``[a-z]``, ``[!a-z]``, ``\\c`` and ``\\xHH``.

A pattern is kept as a sequence of byte sets and stars.  Two evaluators read it: a regular expression
here, and the kernel's bit masks (``clew.model.rules.kernel``); a test holds them against each other.
File names are bytes on Linux, so ``?`` is one byte, and every byte, ``/`` and newline too, can be matched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from clew.errors import RuleError

STAR = -1
"""In ``Glob.elements``: any number of any bytes."""

ANY_BYTE = (1 << 256) - 1
"""The set ``?`` stands for.  A set of bytes is an int: bit N is set where it holds byte N."""


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern.  ``source`` is how it was written; ``elements`` holds ``STAR`` or a set of bytes each.

    Two stars never follow each other in ``elements``.
    """

    source: str
    elements: tuple[int, ...]

    @classmethod
    def parse(cls, source: str, classes: bool = True) -> Glob:
        """Read a pattern; without ``classes``, ``[`` is a byte like any other (C++ has ``operator[]``).

        Raises RuleError, its position counted from the start of ``source``.
        """
        elements: list[int] = []
        at = 0
        while at < len(source):
            found, at = _element(source, at, classes)
            if found != [STAR] or elements[-1:] != [STAR]:
                elements += found
        return cls(source, tuple(elements))

    @classmethod
    def literal(cls, value: bytes) -> Glob:
        """The pattern that matches ``value`` only; its source can be pasted into a rule."""
        return cls("".join(map(_quoted, value)), tuple(1 << byte for byte in value))

    @property
    def exact(self) -> bytes | None:
        """The only bytes the pattern matches, None if it matches more."""
        if not all(element > 0 and element.bit_count() == 1 for element in self.elements):
            return None
        return bytes(element.bit_length() - 1 for element in self.elements)

    @property
    def whole_path(self) -> bool:
        """Whether the pattern speaks of directories: a ``/`` is written in it."""
        return 1 << ord("/") in self.elements

    def matches(self, value: bytes) -> bool:
        """Whether the pattern matches all of ``value``."""
        return _regex(self.elements).fullmatch(value) is not None

    def matches_path(self, path: bytes) -> bool:
        """Whether it matches ``path``: all of it if the pattern has a ``/``, else its last component."""
        return self.matches(path if self.whole_path else path.rpartition(b"/")[2])


def _element(source: str, at: int, classes: bool) -> tuple[list[int], int]:
    char = source[at]
    if char == "*":
        return [STAR], at + 1
    if char == "?":
        return [ANY_BYTE], at + 1
    if char == "[" and classes and (end := _class_end(source, at)):
        return [_class(source, at, end)], end
    found, end = _bytes_at(source, at)
    return [1 << byte for byte in found], end


def _bytes_at(source: str, at: int) -> tuple[bytes, int]:
    """The bytes of the (possibly escaped) character at ``at``, and where the next one begins."""
    if source[at] != "\\":
        return source[at].encode("utf-8", "surrogateescape"), at + 1
    if at + 1 == len(source):
        raise RuleError(
            source, at, "The pattern ends in a backslash.", r"Write \\ for a backslash, \, for a comma."
        )
    if hexadecimal := re.compile(r"x([0-9a-fA-F]{2})").match(source, at + 1):
        return bytes.fromhex(hexadecimal[1]), at + 4
    return source[at + 1].encode("utf-8", "surrogateescape"), at + 2


def _class_end(source: str, at: int) -> int:
    """Where the class that begins at ``at`` ends, 0 if it never does: ``[`` is then a plain byte.

    /usr/bin/[ is a program, and shells read an unclosed bracket the same way.
    """
    at += 1 + (source[at + 1 : at + 2] in ("!", "^"))
    first = at
    while at < len(source):
        if source[at] == "]" and at > first:
            return at + 1
        at += 2 if source[at] == "\\" else 1
    return 0


def _class(source: str, start: int, end: int) -> int:
    if source.startswith("[[:", start) or source.startswith("[![:", start):
        raise RuleError(
            source, start, "Named classes such as [[:digit:]] are not understood.", "Write [0-9]."
        )
    at = start + 1
    inverted = source[at] in "!^"
    at += inverted
    members = 0
    while at < end - 1:
        low, at = _member(source, at)
        high = low
        if source[at] == "-" and at < end - 2:
            high, at = _member(source, at + 1)
        if high < low:
            raise RuleError(source, start, "A range in [...] runs backwards.", "Write it as [a-z].")
        members |= (1 << high + 1) - (1 << low)
    return ANY_BYTE ^ members if inverted else members


def _member(source: str, at: int) -> tuple[int, int]:
    found, end = _bytes_at(source, at)
    if len(found) > 1:
        raise RuleError(source, at, f"[...] holds bytes, and {source[at:end]!r} is {len(found)}.", "Use *.")
    return found[0], end


def _quoted(byte: int) -> str:
    char = chr(byte)
    if char in "*?[\\,":
        return "\\" + char
    return char if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"


@lru_cache(maxsize=256)
def _regex(elements: tuple[int, ...]) -> re.Pattern[bytes]:
    """A regular expression that takes time in proportion to pattern × value, however many stars.

    The first place where the part after a star fits is as good as any later one, so all stars but the
    last are atomic and never tried again.
    """
    parts: list[bytes] = [b""]
    for element in elements:
        if element == STAR:
            parts.append(b"")
        else:
            parts[-1] += _set_regex(element)
    head, *rest = parts
    middle = b"".join(b"(?>.*?" + part + b")" for part in rest[:-1])
    tail = b".*" + rest[-1] if rest else b""
    return re.compile(head + middle + tail, re.DOTALL)


def _set_regex(members: int) -> bytes:
    if members == ANY_BYTE:
        return b"."
    if not members:
        return b"(?!)"
    if members.bit_count() == 1:
        return re.escape(bytes([members.bit_length() - 1]))
    return b"[" + b"".join(b"\\x%02x" % byte for byte in range(256) if members >> byte & 1) + b"]"
