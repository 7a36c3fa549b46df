"""Patterns over bytes."""

from __future__ import annotations

import pytest

from clew.errors import RuleError
from clew.model.rules import Glob


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("qemu", b"qemu", True),
        ("qemu", b"qemu-img", False),
        ("*", b"", True),
        ("*", b"a\n/\0", True),
        ("qemu-*", b"qemu-", True),
        ("*a*b*", b"xxaxxbxx", True),
        ("*a*b*", b"xxbxxaxx", False),
        ("*ab", b"aab", True),
        ("*aab*aab", b"aaabaaab", True),
        ("*ab*ba", b"aba", False),
        ("?", b"/", True),
        ("?", b"", False),
        ("??", "é".encode(), True),
        ("[a-c]x", b"bx", True),
        ("[!a-c]x", b"bx", False),
        ("[^a-c]x", b"dx", True),
        ("[]]", b"]", True),
        ("[!]]", b"]", False),
        ("[a-]", b"-", True),
        (r"[\]\-]", b"-", True),
        (r"[\x80-\xff]", b"\xe9", True),
        ("[", b"[", True),
        ("a[b", b"a[b", True),
        (r"\*", b"*", True),
        (r"\*", b"x", False),
        (r"\\", b"\\", True),
        (r"a\,b", b"a,b", True),
        (r"\x41\x00", b"A\0", True),
        (r"\xg", b"xg", True),
        ("caf\udce9", b"caf\xe9", True),
        ("a.c", b"abc", False),
        ("a|b", b"a", False),
    ],
)
def test_matching(pattern: str, value: bytes, expected: bool) -> None:
    assert Glob.parse(pattern).matches(value) is expected


def test_function_patterns_have_no_classes() -> None:
    glob = Glob.parse("operator[](i*)", classes=False)
    assert glob.matches(b"operator[](int)")
    assert not glob.matches(b"operator](int)")


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("gdb", b"/usr/bin/gdb", True),
        ("gdb", b"gdb", True),
        ("gdb", b"/usr/gdb/x", False),
        ("*bin*", b"/usr/bin/gdb", False),
        ("/usr/*/gdb", b"/usr/local/bin/gdb", True),
        ("bin/gdb", b"/usr/bin/gdb", False),
        ("*/bin/gdb", b"/usr/bin/gdb", True),
        ("[/]bin[/]sh", b"/bin/sh", True),
    ],
)
def test_paths(pattern: str, path: bytes, expected: bool) -> None:
    assert Glob.parse(pattern).matches_path(path) is expected


def test_all_bytes_survive_a_literal() -> None:
    for byte in range(256):
        value = bytes([byte, 65, byte])
        literal = Glob.literal(value)
        assert Glob.parse(literal.source) == literal
        assert literal.exact == value
        assert literal.matches(value)
        assert not literal.matches(value + b"x")
        assert literal.source.isprintable()


def test_exact_is_for_patterns_of_one_text() -> None:
    assert Glob.parse(r"a\*b").exact == b"a*b"
    assert Glob.parse("[a]").exact == b"a"
    assert Glob.parse("a*").exact is None
    assert Glob.parse("a?").exact is None


def test_stars_never_follow_each_other() -> None:
    assert Glob.parse("a***b**").elements == Glob.parse("a*b*").elements


def test_many_stars_take_no_exponential_time() -> None:
    # A backtracking matcher needs about 10^25 steps for this, the pytest timeout comes first.
    assert not Glob.parse("*a" * 30 + "*b").matches(b"a" * 2000)


@pytest.mark.parametrize(
    ("pattern", "position"), [("ab\\", 2), ("a[z-b]", 1), ("x[[:alpha:]]", 1), ("[ü]", 1)]
)
def test_faults_have_a_place(pattern: str, position: int) -> None:
    with pytest.raises(RuleError) as caught:
        Glob.parse(pattern)
    assert caught.value.position == position
