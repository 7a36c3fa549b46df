"""Nothing a client sends or does may hurt the daemon, its guests, or another client."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from minivirt_world import World, exactly, is_alive, message, open_world, reply, until


@pytest.fixture
def busy(session: World) -> Iterator[World]:
    """A world with one guest, which must still run at the end, under the same daemon."""
    guest = session.start("innocent")
    daemon = session.daemon_pid()
    yield session
    assert session.listed()["innocent"] == (str(guest), "running")
    assert is_alive(guest) and is_alive(daemon) and session.daemon_pid() == daemon


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    """One daemon for all the requests that must change nothing."""
    for world in open_world("user-session", "stand-in"):
        world.sh("list")
        yield world


def raw(world: World, body: bytes) -> object:
    with world.connect() as connection:
        connection.sendall(message(body))
        return reply(connection).get("error")


def test_what_cannot_be_done_is_said_in_a_line(busy: World) -> None:
    assert "there is no guest 'nope'" in busy.sh_fails("start", "nope")
    assert "there is no guest 'nope'" in busy.sh_fails("destroy", "nope")
    assert "already running" in busy.sh_fails("start", "innocent")
    busy.sh("define", "idle")
    assert "'idle' is not running" in busy.sh_fails("destroy", "idle")
    assert "memory must be" in busy.sh_fails("define", "big", "--memory", "99999999")


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "a,b", "-S", "a\nb", "\x1b[31m", "x" * 64, ".", "ü", "a\0b", "%s"]
)
def test_names_that_could_do_harm_are_refused(shared: World, name: str) -> None:
    error = raw(shared, json.dumps({"command": "define", "name": name, "memory_mib": 1}).encode())
    assert "cannot name a guest" in str(error) and str(error).isascii() and str(error).isprintable()
    assert shared.ask(command="list", all=True) == {"guests": []}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 60000, "not JSON"),
        (b"1" * 60000, "not JSON"),
        (b"null", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"{}", "unknown command None"),
        (b'{"command": ["start"]}', "unknown command"),
        (b'{"command": "\\u001b[2J"}', "unknown command"),
        (b'{"command": "start"}', "None cannot name a guest"),
        (b'{"command": "start", "name": 7}', "7 cannot name a guest"),
        (b'{"command": "define", "name": "a", "memory_mib": true}', "memory must be"),
        (b'{"command": "define", "name": "a", "memory_mib": 1.5}', "memory must be"),
        (b'{"command": "define", "name": "a", "memory_mib": 1e999}', "memory must be"),
    ],
    ids=lambda value: str(value[:20]) if isinstance(value, bytes) else "",
)
def test_requests_that_do_not_parse(shared: World, body: bytes, says: str) -> None:
    error = str(raw(shared, body))
    assert says in error and error.isprintable()
    assert shared.ask(command="list", all=True) == {"guests": []}


def test_an_oversize_request_is_refused_and_its_sender_hung_up_on(busy: World) -> None:
    for length in (64 * 1024 + 1, 2**32 - 1):
        with busy.connect() as connection:
            connection.sendall(struct.pack("!I", length) + b"x" * 100)
            assert f"a message of {length} bytes is announced" in str(reply(connection)["error"])
            assert connection.recv(1) == b""


def test_the_longest_request_allowed_is_read(busy: World) -> None:
    body = b'{"command": "list"}'.ljust(64 * 1024)
    with busy.connect() as connection:
        connection.sendall(message(body))
        assert [guest["name"] for guest in reply(connection)["guests"]] == ["innocent"]  # type: ignore[attr-defined]


def test_random_bytes(busy: World) -> None:
    for n in range(50):
        with busy.connect() as connection:
            connection.sendall(os.urandom(200 + n))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass  # until the daemon hangs up, whatever it made of them


def test_clients_that_leave_in_the_middle(busy: World) -> None:
    whole = message(b'{"command": "list"}')
    for length in range(len(whole) + 1):
        with busy.connect() as connection:
            connection.sendall(whole[:length])


def test_a_client_that_leaves_before_its_guest_has_started(busy: World) -> None:
    busy.ask(command="define", name="late", memory_mib=64)
    with busy.connect() as connection:
        connection.sendall(message(b'{"command": "start", "name": "late"}'))
    # The start goes on without it.
    until(lambda: busy.listed()["late"][1] == "running", "the start to go on")
    busy.sh("destroy", "late")


def test_a_request_in_single_bytes(busy: World) -> None:
    with busy.connect() as connection:
        for byte in message(b'{"command": "list"}'):
            connection.sendall(bytes([byte]))
        assert "guests" in reply(connection)


def test_requests_sent_together_are_answered_in_order(busy: World) -> None:
    names = [f"g{n}" for n in range(100)]
    requests = [{"command": "destroy", "name": name} for name in names]
    with busy.connect() as connection:
        connection.sendall(b"".join(message(json.dumps(request).encode()) for request in requests))
        errors = [str(reply(connection)["error"]) for _ in names]
    assert errors == [f"there is no guest '{name}'" for name in names]


def test_a_client_that_never_reads_is_not_served_on(busy: World) -> None:
    """It fills its own buffers and stops; the daemon takes no more from it, and serves the others."""
    with busy.connect() as connection:
        connection.setblocking(False)
        flood = message(b'{"command": "list", "all": true}') * 100
        with pytest.raises(BlockingIOError):
            while True:
                connection.send(flood)
        assert "guests" in busy.ask(command="list")
        connection.setblocking(True)
        assert exactly(connection, 4)


def test_more_clients_than_the_daemon_takes(busy: World) -> None:
    crowd = [busy.connect() for _ in range(300)]
    try:
        for connection in crowd:
            connection.sendall(message(b'{"command": "list"}'))
        for connection in crowd[:256]:
            assert "guests" in reply(connection)
            connection.close()  # makes room for one of those who wait
        for connection in crowd[256:]:
            assert "guests" in reply(connection)
    finally:
        for connection in crowd:
            connection.close()


def test_an_emulator_that_is_not_there(world: World) -> None:
    world.end()
    world.env["MINIVIRT_EMULATOR"] = "/nonexistent/qemu-system-x86_64"
    world.daemonise()
    world.sh("define", "tiny")
    for _ in range(2):
        error = world.sh_fails("start", "tiny")
        assert error == "error: cannot run /nonexistent/qemu-system-x86_64: No such file or directory\n"
        assert world.listed() == {"tiny": ("-", "shut off")}


def test_an_emulator_nobody_may_run(root_system: World) -> None:
    root_system.end()
    root_system.env["MINIVIRT_EMULATOR"] = program = root_system.script("exit 0")
    Path(program).chmod(0o700)
    root_system.daemonise()
    root_system.sh("define", "tiny")
    assert root_system.sh_fails("start", "tiny") == f"error: cannot run {program}: Permission denied\n"


def test_a_definition_that_cannot_be_read(root_system: World) -> None:
    root_system.sh("define", "tiny")
    root_system.end()
    file = root_system.folder / "guests" / "tiny.json"
    file.write_text("{}")
    done = root_system.run("minivirtd", "-d")
    assert done.returncode == 1 and f"the definition {file} cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_whose_path_is_too_long(session: World) -> None:
    session.env["MINIVIRT_RUNTIME_DIR"] = str(session.home / ("x" * 100))
    assert "too long for a unix socket" in session.sh_fails("list")


@pytest.mark.parametrize(
    "arguments", [["start"], ["reboot", "tiny"], ["define", "a", "--memory", "lots"], []]
)
def test_wrong_usage(session: World, arguments: list[str]) -> None:
    done = session.run("minivirsh", *arguments)
    assert done.returncode == 2 and done.stderr.startswith("usage: minivirsh")
    assert not session.folder.exists(), "a daemon was started for nothing"
