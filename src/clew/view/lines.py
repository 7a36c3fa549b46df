"""Styled lines of a terminal: fitted, wrapped at words, with a time at the right edge."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console
from rich.text import Text

Word = tuple[str, str]
"""A piece of text that is not broken if it fits on a line, and its rich style."""

_ASCII = str.maketrans({"→": "->", "←": "<", "›": ">", "…": "..", "×": "x", "·": "."})


def shorten(text: str, width: int) -> str:
    """``text`` in at most ``width`` columns: its beginning and its end, which tell paths and names apart."""
    if cell_len(text) <= width:
        return text
    tail = max((width - 1) // 3, 0)
    kept = text[len(text) - tail :] if tail else ""
    while cell_len(kept) > tail:
        kept = kept[1:]
    return set_cell_size(text, max(width - 1 - cell_len(kept), 0)).rstrip() + "…" + kept


def begin(text: str, width: int) -> str:
    """The beginning of ``text`` in at most ``width`` columns: for command lines."""
    return text if cell_len(text) <= width else set_cell_size(text, max(width - 1, 0)).rstrip() + "…"


def wrap(words: Sequence[Word], width: int, cut: bool = True) -> list[Text]:
    """Lines of at most ``width`` columns, words a space apart; a longer word is cut short, or broken."""
    lines, used = [Text()], 0
    for text, style in words:
        for piece in _pieces(text, width, cut):
            size = cell_len(piece)
            if used and used + 1 + size > width:
                lines.append(Text())
                used = 0
            elif used:
                lines[-1].append(" ")
                used += 1
            lines[-1].append(piece, style)
            used += size
    return lines


def hang(label: Text, lines: Iterable[Text]) -> list[Text]:
    """``label`` before the first line, as many blanks before the others."""
    blank = " " * label.cell_len
    return [(label.copy() if i == 0 else Text(blank)).append_text(line) for i, line in enumerate(lines)]


def ends(left: Text, right: Text, width: int) -> Text:
    """``left``, and ``right`` at the right edge."""
    return left.append(" " * max(width - left.cell_len - right.cell_len, 2)).append_text(right)


def page(lines: Sequence[Text], color: bool, ascii: bool) -> str:
    """The lines as one string; without colour it holds no escape sequence at all."""
    out = "\n".join(_colored(lines) if color else (line.plain.rstrip() for line in lines)) + "\n"
    return out.translate(_ASCII).encode("ascii", "backslashreplace").decode() if ascii else out


def _colored(lines: Iterable[Text]) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", no_color=False)
    rendered = []
    for line in lines:
        parts = (s.style.render(s.text) if s.style else s.text for s in line.render(console))
        rendered.append("".join(parts).rstrip())
    return rendered


def _pieces(text: str, width: int, cut: bool) -> list[str]:
    if cell_len(text) <= width:
        return [text]
    return [shorten(text, width)] if cut else chop_cells(text, width)
