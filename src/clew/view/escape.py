"""Makes text that came from a traced process safe to show: one function for each kind of sink.

A program chooses its own name, arguments, socket paths and symbol names, so each of them may hold
terminal escapes, bidi marks, markup or bytes that are no text at all.  Nothing traced reaches an output
except through this module.  Every function takes ``bytes`` (UTF-8 is assumed, anything else is shown
byte by byte) or ``str``, is total, and may be applied to its own output of ``visible`` without harm.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

# Characters that Python calls printable and that yet show nothing or change their neighbours: fillers,
# blanks and variation selectors.  The rest (controls, bidi and zero-width marks, surrogates, private
# and unassigned characters, exotic spaces) is what str.isprintable() refuses.
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NAMED = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}
# More accents than a letter of any script carries: what is stacked higher covers the lines around it.
_ACCENT = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_STACKED = re.compile(f"({_ACCENT}{{3}}){_ACCENT}+")

_XML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})
_IN_QUOTES = frozenset('"$`\\!')  # what a shell still reads inside double quotes
# re.ASCII: otherwise "ı" (U+0131) and "ſ" (U+017F) count as letters from A to Z when case is ignored.
_ANY_CASE = re.ASCII | re.IGNORECASE
_MERMAID_CODED = re.compile(r"[^A-Z0-9 ._/,=()+-]|s(?=tyle)|c(?=lassDef)", _ANY_CASE)
_MERMAID_END = re.compile(r"(?<![A-Z0-9_])e(?=nd(?![A-Z0-9_]))", _ANY_CASE)


def text(data: bytes | str) -> str:
    """``data`` as a string in which bytes that are not UTF-8 are surrogates (PEP 383)."""
    return data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data


def visible(data: bytes | str) -> str:
    r"""For a terminal and as the base of the other sinks: one printable line with nothing hidden in it.

    Control characters become ``\n``, ``\t``, ``\x1b``; bytes that are not UTF-8 ``\xff``; every other
    character that is not seen as itself (bidi, zero width, private use) ``\u202e`` or ``\U000e0001``.
    A backslash stays as it is, so that applying this twice changes nothing.  Print it as
    ``rich.text.Text``, never as a string that rich would search for its markup.
    """
    line = text(data)
    if line.isprintable() and (line.isascii() or not (_UNSEEN.search(line) or _STACKED.search(line))):
        return line
    line = _STACKED.sub(lambda m: m[1] + "".join(map(_backslash, m[0][3:])), line)
    return "".join(c if c.isprintable() and not _UNSEEN.match(c) else _backslash(c) for c in line)


def xml(data: bytes | str) -> str:
    """For character data and attribute values of XML, SVG and HTML, whichever quote is used."""
    return visible(data).translate(_XML)


def mermaid(data: bytes | str) -> str:
    """For a name or a message in a Mermaid diagram: all but plain characters as ``#code;`` entities.

    So are three words that Mermaid looks for inside a line: "end" closes a block, and its preprocessor
    takes the last ";" from a line with "style…:…#…;" or "classDef…:…#…;", cutting an entity short.
    """
    return _MERMAID_END.sub(_entity, _MERMAID_CODED.sub(_entity, visible(data)))


def dot(data: bytes | str) -> str:
    """For the inside of a double-quoted string of Graphviz (where a backslash begins an escape)."""
    return visible(data).replace("\\", "\\\\").replace('"', '\\"')


def json_text(data: bytes | str) -> str:
    r"""For a JSON string: valid UTF-8 as it is, a byte that is not as ``\xff`` (a lone surrogate ``\ud800``).

    The encoder must be told ``ensure_ascii=True``: then control, bidi and zero-width characters leave
    as JSON escapes, and what a program reads back is exactly what was traced.
    """
    return _SURROGATE.sub(lambda m: _backslash(m[0]), text(data))


def shell(data: bytes | str) -> str:
    r"""One word of a command to paste into bash, zsh or ksh; it stands for exactly ``data``.

    A word that cannot be shown as itself is written ``$'\033…'``, octal because hexadecimal escapes
    have no fixed length in every shell.
    """
    word = text(data)
    if visible(word) == word:
        return f'"{word}"' if "'" in word and not _IN_QUOTES.intersection(word) else shlex.quote(word)
    raw = word.encode("utf-8", "surrogateescape") if not _foreign(word) else word.encode("utf-8", "replace")
    return "$'" + "".join(map(_octal, raw)) + "'"


def command(words: Iterable[bytes | str]) -> str:
    """A command line to paste."""
    return " ".join(map(shell, words))


def _backslash(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return _NAMED.get(char, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _entity(found: re.Match[str]) -> str:
    return f"#{ord(found[0])};"


def _foreign(word: str) -> bool:
    """Whether it holds surrogates that stand for no byte."""
    return any(not "\udc80" <= m[0] <= "\udcff" for m in _SURROGATE.finditer(word))


def _octal(byte: int) -> str:
    char = chr(byte)
    return char if (char.isalnum() and byte < 0x80) or char in " ._/,=:+-@%" else f"\\{byte:03o}"
