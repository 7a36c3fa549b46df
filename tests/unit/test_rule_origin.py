"""What ``--from`` and ``--requests`` say, read."""

from __future__ import annotations

import pytest

from clew.errors import RuleError
from clew.model.rules import OriginKind, Rule, Served, parse_origin, parse_served


def test_a_program_takes_conditions_and_a_number() -> None:
    origin = parse_origin("exec:curl,argv=*example*,n=3")
    assert (origin.kind, origin.n, origin.counted) == (OriginKind.EXEC, 3, True)
    assert isinstance(origin.what, Rule) and len(origin.what.conditions) == 1
    assert not parse_origin("exec:curl").counted


def test_a_process_is_a_number() -> None:
    origin = parse_origin("pid:123")
    assert (origin.kind, origin.what, origin.n) == (OriginKind.PID, 123, 1)


@pytest.mark.parametrize(
    ("text", "name", "pid", "meant"),
    [
        ("connect:/run/x.sock,n=3", "/run/x.sock", 1, True),
        ("connect:/run/x.sock", "/run/y.sock", 1, False),
        ("connect:*:8080,n=2", "127.0.0.1:8080", 1, True),
        ("connect:127.0.0.1:8080", "127.0.0.1:8080", 1, True),
        ("connect:[::1]:8080", "[::1]:8080", 1, True),  # as it is shown, though [ begins a class
        ("connect:@name", "@name", 1, True),
        (r"connect:/run/a\,b", "/run/a,b", 1, True),
        ("request:77", "", 77, True),
        ("request:77", "77", 78, False),
        ("request:*", "", 78, True),
    ],
)
def test_a_server_is_a_socket_or_a_process(text: str, name: str, pid: int, meant: bool) -> None:
    what = parse_origin(text).what
    assert isinstance(what, Served)
    assert what.matches(name, pid) is meant


@pytest.mark.parametrize(
    ("text", "position", "cause"),
    [
        ("curl", 0, "does not say what the flow begins with"),
        ("conect:x", 0, "cannot begin with conect"),
        ("connect:", 8, "names no server"),
        ("connect:x,n=0", 10, "is not a number"),
        ("connect:x,uid=0", 10, "is not a number"),
        ("connect:x,n=1,n=2", 14, "Only a number may follow"),
        ("pid:x", 4, "is not a process id"),
        ("fork:curl", 0, "cannot begin with fork"),
    ],
)
def test_a_fault_is_told_with_its_place(text: str, position: int, cause: str) -> None:
    with pytest.raises(RuleError, match=cause) as caught:
        parse_origin(text)
    assert caught.value.position == position


def test_requests_are_asked_of_a_server() -> None:
    assert parse_served("12").pid == 12
    assert parse_served("/run/x.sock").matches("/run/x.sock", 1)
    with pytest.raises(RuleError):
        parse_served("")
