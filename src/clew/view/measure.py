"""How wide a text will be in a picture, without the reader's fonts: estimates that err on the wide side."""

from __future__ import annotations

from functools import cache
from unicodedata import combining, east_asian_width

# Widths in ems of DejaVu Sans, the widest font that a reader's "sans-serif" is likely to be.
_WIDTHS = {
    0.34: " iIjl.,:;'|!",
    0.41: '()[]{}frt/\\-"',
    0.5: "_?",
    0.59: "cksvxyzJ",
    0.84: "ABCDGHKNOQRUVXY&+=<>~→",
    1.0: "MWmw@%…",
}
_WIDTH = {char: width for width, chars in _WIDTHS.items() for char in chars}
_ORDINARY = 0.64
_MONO = 0.61


def width(text: str, size: float, mono: bool = False, bold: bool = False) -> float:
    """Pixels that ``text`` takes at a font size of ``size`` pixels."""
    return sum(map(_mono_em if mono else _em, text)) * size * (1.1 if bold and not mono else 1)


def fit(text: str, room: float, size: float, mono: bool = False, bold: bool = False) -> str:
    """``text``, or so much of its beginning and end as ``room`` pixels hold; "" if that is nothing."""
    if width(text, size, mono, bold) <= room:
        return text
    # Beyond this many characters nothing fits: keeps the search short for arguments of 100 KiB.
    most = min(len(text), int(room / (size * 0.3)) + 1)
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if width(_cut(text, middle), size, mono, bold) <= room:
            low = middle
        else:
            high = middle - 1
    return _cut(text, low) if low > 1 else ""


def _cut(text: str, kept: int) -> str:
    """The first two thirds of ``kept`` characters from the beginning, the rest from the end."""
    tail = kept // 3
    return text[: kept - tail].rstrip() + "…" + (text[-tail:].lstrip() if tail else "")


@cache
def _em(char: str) -> float:
    return _WIDTH.get(char) or _wide(char, _ORDINARY)


@cache
def _mono_em(char: str) -> float:
    return _wide(char, _MONO)


def _wide(char: str, ordinary: float) -> float:
    if combining(char):
        return 0.0
    return 1.25 if east_asian_width(char) in "WF" else ordinary
