"""How daemons come and go: on demand, one at a time, never leaving a guest behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest
from minivirt_world import (
    PATIENCE_S,
    USER,
    World,
    a_world,
    is_alive,
    is_our_daemon,
    message,
    python_for,
    reply,
    until,
    wait_readable,
    watching,
)


def test_stopping_the_daemon_ends_its_guests(any_world: World) -> None:
    guests = [any_world.start(name) for name in ("one", "two")]
    daemon = any_world.daemon_pid()
    any_world.end()
    assert not is_alive(daemon)
    assert [pid for pid in guests if Path(f"/proc/{pid}").exists()] == []
    assert not (any_world.folder / "minivirt-sock").exists()


def test_guests_die_with_a_daemon_that_is_killed(any_world: World) -> None:
    guest = any_world.start("tiny")
    with watching(guest) as ended, watching(daemon := any_world.daemon_pid()) as gone:
        os.kill(daemon, signal.SIGKILL)
        gone()
        ended()
    if any_world.kind == "system":
        assert "system daemon is not running" in any_world.sh_fails("list")
        any_world.daemonise()
    assert any_world.listed() == {"tiny": ("-", "shut off")}
    assert any_world.daemon_pid() != daemon


def test_an_idle_session_daemon_ends_itself(session: World) -> None:
    session.env["MINIVIRT_TIMEOUT"] = "0.2"
    # Its end closes the pipe it would have kept open, had it not left already.
    session.sh("list")
    with contextlib.suppress(ProcessLookupError), watching(session.daemon_pid()) as ended:
        ended()
    assert not (session.folder / "minivirt-sock").exists()
    session.sh("list")


def test_a_session_daemon_stays_for_a_client_and_for_a_guest(session: World) -> None:
    session.env["MINIVIRT_TIMEOUT"] = "0.5"
    guest = session.start("tiny")
    daemon = session.daemon_pid()
    with watching(daemon) as ended:
        with session.connect() as connection:
            connection.sendall(message(b'{"command": "destroy", "name": "tiny"}'))
            assert reply(connection) == {"pid": guest}
            connection.sendall(message(b'{"command": "list"}'))
            assert reply(connection) == {"guests": []}
        ended()


def test_shells_at_once_share_one_session_daemon(session: World) -> None:
    shells = [session.popen("minivirsh", "define", f"g{n}") for n in range(10)]
    outcomes = [(shell.communicate(), shell.returncode) for shell in shells]
    assert [code for _, code in outcomes] == [0] * 10, outcomes
    assert [step["did"] for step in session.said()].count("start daemon") == 1
    assert len(session.listed()) == 10


def test_shells_that_meet_a_leaving_daemon_are_served(session: World) -> None:
    """The shortest life a daemon can have: it tries to leave whenever nobody is there."""
    session.env["MINIVIRT_TIMEOUT"] = "0.001"
    shells = [session.popen("minivirsh", "define", f"g{n}") for n in range(20)]
    outcomes = [(shell.communicate(), shell.returncode) for shell in shells]
    assert [code for _, code in outcomes] == [0] * 20, outcomes
    session.env["MINIVIRT_TIMEOUT"] = "600"
    assert len(session.listed()) == 20


def test_there_is_one_daemon_in_a_place(world: World) -> None:
    world.sh("list")
    daemon = world.daemon_pid()
    session = ["--session"] if world.kind == "session" else []
    for options in ([], ["-d"]):
        done = world.run("minivirtd", *session, *options)
        assert done.returncode == 1 and f"a {world.kind} daemon is already running" in done.stderr
    assert world.daemon_pid() == daemon
    world.sh("list")


def test_daemons_in_two_places_do_not_meet(world: World) -> None:
    with a_world(world.kind, world.uid, world.emulator, world.python) as other:
        other.env["MINIVIRT_TIMEOUT"] = "600"
        if other.kind == "system":
            other.daemonise()
        mine, theirs = world.start("tiny"), other.start("tiny")
        assert world.daemon_pid() != other.daemon_pid()
        other.sh("destroy", "tiny")
        assert not is_alive(theirs)
        other.end()
        assert world.listed() == {"tiny": (str(mine), "running")}


def test_root_has_both_daemons_beside_each_other(root_system: World) -> None:
    root_system.start("tiny")
    root_system.env["MINIVIRT_TIMEOUT"] = "600"
    done = root_system.run("minivirsh", "list", "--all", "--connect", "session")
    assert done.returncode == 0 and "tiny" not in done.stdout
    session = int((root_system.home / "run" / "session" / "minivirtd.pid").read_text())
    assert is_our_daemon(session)
    with watching(session) as ended:
        os.kill(session, signal.SIGINT)
        ended()
    assert root_system.listed()["tiny"][1] == "running"


def test_a_user_may_not_talk_to_the_system_daemon(root_system: World) -> None:
    root_system.uid = USER
    root_system.example = _readable_copy(root_system)
    if not (python := python_for(USER)):
        pytest.skip("no Python that a user can run")
    root_system.python = python
    assert "only root may talk to the system daemon" in root_system.sh_fails("list")
    root_system.uid = 0


def test_there_is_no_system_daemon_on_demand(root_system: World) -> None:
    root_system.end()
    assert "start it as root with 'minivirtd -d'" in root_system.sh_fails("list")
    shutil.rmtree(root_system.folder)
    assert "start it as root with 'minivirtd -d'" in root_system.sh_fails("list")


def test_a_daemon_in_the_foreground(world: World) -> None:
    world.end()
    session = ["--session"] if world.kind == "session" else []
    with world.popen("minivirtd", *session) as daemon:
        try:
            until(lambda: daemon.poll() is not None or is_listening(world), "the daemon to listen")
            guest = world.start("tiny")
            daemon.send_signal(signal.SIGINT)
            out, err = daemon.communicate(timeout=PATIENCE_S)
        finally:
            daemon.kill()
    assert (daemon.returncode, out, err) == (0, "", "")
    assert not is_alive(guest)


def test_a_daemon_keeps_nothing_of_its_starter_s_open(session: World) -> None:
    reader, writer = os.pipe()
    with session.popen("minivirsh", "list", pass_fds=[writer]) as shell:
        os.close(writer)
        shell.communicate()
    wait_readable(reader, "end of file")
    assert os.read(reader, 1) == b""
    assert is_our_daemon(session.daemon_pid())
    os.close(reader)


def test_without_a_runtime_folder_a_user_s_place_goes_by_uid(session: World) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be a user whose place is not in use")
    place = Path(f"/tmp/minivirt-{USER}")
    if place.exists():
        pytest.skip(f"{place} is in use")
    del session.env["MINIVIRT_RUNTIME_DIR"]
    try:
        session.sh("define", "tiny")
        assert place.stat().st_uid == USER and place.stat().st_mode & 0o777 == 0o700
        with watching(daemon := int((place / "minivirtd.pid").read_text())) as ended:
            os.kill(daemon, signal.SIGTERM)
            ended()
        os.chown(place, 0, 0)
        assert "is not a folder of yours" in session.sh_fails("list")
        os.chown(place, USER, USER)
        place.chmod(0o755)
        assert "others can get at" in session.sh_fails("list")
    finally:
        shutil.rmtree(place)


def test_xdg_runtime_dir_is_used(session: World) -> None:
    runtime = session.env.pop("MINIVIRT_RUNTIME_DIR")
    session.env["XDG_RUNTIME_DIR"] = runtime
    session.sh("list")
    place = Path(runtime) / "minivirt"
    with watching(daemon := int((place / "minivirtd.pid").read_text())) as ended:
        os.kill(daemon, signal.SIGTERM)
        ended()
    assert place.stat().st_mode & 0o777 == 0o700


def _readable_copy(world: World) -> Path:
    copy = world.base / "copy"
    shutil.copytree(world.example, copy, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    return copy


def is_listening(world: World) -> bool:
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        world.connect().close()
        return True
    return False
