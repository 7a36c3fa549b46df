"""What a traced program chose to call things must reach no sink as anything but text."""

from __future__ import annotations

import json
import random
import re
import subprocess
import unicodedata
from html import unescape
from xml.etree import ElementTree

import pytest

from clew.view.escape import command, dot, json_text, mermaid, shell, visible, xml
from tests.golden.view.flows import NASTY

_PIECES = [
    *NASTY, b"\x1b[2J", b"\x1b]52;c;aGk=\x07", b"\xc2\x9b31m", b"\r", b"\x7f", b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80", "\u202e\u2067\u200e\u061c\u200d\u2028\u2029\u00ad\u3164\ufffe\U000e0041".encode(),
    b"</title>", b"]]>", b"&lt;", b"%%{init}%%", b"end", b"END", "\u0131\u017f".encode(), b"\\", b"\\N", b'"',
    b"'", b"$'x'", b"`", b"!", b"-rf", b"~", b"*", b" ", b"a",
]  # fmt: skip


def _random_words() -> list[bytes]:
    """Half random bytes, half random joins of what is known to be nasty; the same on each run."""
    chance = random.Random(4121)
    joined = [b"".join(chance.choices(_PIECES, k=chance.randint(1, 5))) for _ in range(300)]
    return [chance.randbytes(chance.randint(0, 24)) for _ in range(300)] + joined


WORDS = [*_PIECES, *_random_words()]
_TEXTS = [word.decode("utf-8", "surrogateescape") for word in WORDS] + ["\ud800", "a\udfffb", "\udc80\ud83d"]
EVERYTHING: list[bytes | str] = [*WORDS, *_TEXTS]


def _hidden(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def test_visible_hides_nothing_and_may_be_repeated() -> None:
    for data in EVERYTHING:
        shown = visible(data)
        assert shown.isprintable()
        assert not any(map(_hidden, shown))
        assert visible(shown) == shown
        shown.encode("utf-8")


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"plain \xc3\xa9\xe8\xad\x89", "plain é證"),
        (b"\x1b]0;pwn\x07", r"\x1b]0;pwn\x07"),
        (b"a\nb\tc\r", r"a\nb\tc\r"),
        (b"\xff\x80", r"\xff\x80"),
        (b"\xc2\x9b", r"\u009b"),
        ("\u202eevil\u2069", r"\u202eevil\u2069"),
        ("\u200b\ufeff\u3164", r"\u200b\ufeff\u3164"),
        ("\udc9b \ud800", r"\x9b \ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("a" + "\u0301" * 3, "a" + "\u0301" * 3),
        ("a" + "\u0301" * 4, "a" + "\u0301" * 3 + r"\u0301"),
        (b"back\\slash", "back\\slash"),
    ],
)
def test_visible_says_what_was_there(data: bytes | str, shown: str) -> None:
    assert visible(data) == shown


def test_xml_is_read_back_as_what_is_visible() -> None:
    for data in EVERYTHING:
        escaped = xml(data)
        for quote in "\"'":
            element = ElementTree.fromstring(f"<a b={quote}{escaped}{quote}>{escaped}</a>")
            assert (element.text or "") == element.get("b") == visible(data)
            assert len(element) == 0
        assert not set("<>\"'") & set(escaped)


def test_mermaid_gets_plain_characters_and_entities_only() -> None:
    for data in EVERYTHING:
        escaped = mermaid(data)
        assert re.fullmatch(r"(?:[A-Za-z0-9 ._/,=()+-]|#\d+;)*", escaped)
        assert not re.search(r"\bend\b|style|classdef", escaped, re.IGNORECASE)
        assert unescape(re.sub(r"#(\d+);", r"&#\1;", escaped)) == visible(data)


def test_dot_string_ends_where_it_should() -> None:
    for data in EVERYTHING:
        assert re.fullmatch(r'(?:[^"\\]|\\["\\])*', dot(data))
        assert re.sub(r'\\(["\\])', r"\1", dot(data)) == visible(data)


def test_json_keeps_text_and_shows_bytes() -> None:
    for data in EVERYTHING:
        written = json.dumps(json_text(data), ensure_ascii=True)
        assert all(" " <= char <= "~" for char in written)
        back = json.loads(written)
        back.encode("utf-8")
        whole = data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data
        if not any("\ud800" <= char <= "\udfff" for char in whole):
            assert back == whole


def test_json_of_a_byte_is_its_escape() -> None:
    assert json_text(b"\xff\xfeA") == r"\xff\xfeA"


def test_bash_reads_back_each_word() -> None:
    words = [word for word in WORDS if b"\0" not in word]
    line = command(words)
    assert visible(line) == line
    said = subprocess.run(
        ["bash", "--norc", "-c", f"printf '%s\\0' {line}"],
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    assert said.stdout.split(b"\0")[:-1] == words


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        (b"plain-1.0", "plain-1.0"),
        (b"", "''"),
        (b"two words", "'two words'"),
        (b"it's", '"it\'s"'),
        (b"it's $HOME", "'it'\"'\"'s $HOME'"),
        (b"\x1b[0m", r"$'\033\1330m'"),
        (b"\xff", r"$'\377'"),
    ],
)
def test_shell_words_are_as_simple_as_can_be(word: bytes, quoted: str) -> None:
    assert shell(word) == quoted
