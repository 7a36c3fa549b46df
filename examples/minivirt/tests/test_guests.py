"""define, start, list and destroy really start and end processes, with the rights a guest may have."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from minivirt_world import World, arguments, is_alive, status, until, watching


def test_a_guest_lives_from_start_to_destroy(any_world: World) -> None:
    assert any_world.sh("define", "tiny") == "Guest 'tiny' defined\n"
    assert any_world.listed() == {"tiny": ("-", "shut off")}
    started = any_world.sh("start", "tiny")
    pid = int(started.removeprefix("Guest 'tiny' started, pid "))
    assert is_alive(pid)
    assert any_world.listed() == {"tiny": (str(pid), "running")}
    assert any_world.sh("destroy", "tiny") == f"Guest 'tiny' destroyed, pid {pid}\n"
    assert not Path(f"/proc/{pid}").exists(), "ended, but not reaped"
    assert any_world.listed() == {"tiny": ("-", "shut off")}
    assert any_world.sh("list") == any_world.sh("list", "--all").split(" -")[0]


def test_the_process_is_the_emulator_for_that_guest(any_world: World) -> None:
    pid = any_world.start("tiny")
    argv = arguments(pid)
    program = next(word for word in argv if word.endswith("/qemu-system-x86_64"))
    assert argv[argv.index(program) + 1 :][:2] == ["-name", "guest=tiny,debug-threads=on"]
    assert Path(f"/proc/{pid}/comm").read_text() == "qemu-system-x86\n"
    assert status(pid)["PPid"] == str(any_world.daemon_pid())
    if any_world.emulator == "qemu":
        assert Path(f"/proc/{pid}/exe").readlink().name == "qemu-system-x86_64"


def test_a_guest_has_no_rights_to_speak_of(any_world: World) -> None:
    facts = status(any_world.start("tiny"))
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(facts[kind], 16) == 0, kind
    uid, gid = (65534, 65534) if any_world.kind == "system" else (any_world.uid, any_world.uid)
    if any_world.uid == 0 or any_world.uid != os.geteuid():
        assert facts["Uid"].split() == [str(uid)] * 4
        assert facts["Gid"].split() == [str(gid)] * 4
    if any_world.kind == "system":
        assert int(facts["CapBnd"], 16) == 0
        assert facts["Groups"] == ""


def test_a_guest_gets_no_setting_and_no_file_of_the_daemon(world: World) -> None:
    """Seen with a program that changes nothing of it by itself, as Python and QEMU do."""
    world.end()
    world.env["MINIVIRT_EMULATOR"] = script = world.script("kill -STOP $$")
    world.daemonise("--grace", "0.1")
    pid = world.start("tiny")
    facts = status(pid)
    assert [int(facts[mask], 16) for mask in ("SigBlk", "SigIgn")] == [0, 0]
    open_files = {fd.name: str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    log = str(world.folder / "log" / "tiny.log")
    open_files = {fd: file for fd, file in open_files.items() if file != script}
    assert open_files == {"0": "/dev/null", "1": log, "2": log}
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")


def test_many_guests_at_once(world: World) -> None:
    names = [f"guest-{n}" for n in range(24)]
    world.sh("list")
    for name in names:
        assert world.ask(command="define", name=name, memory_mib=64) == {}
    shells = [world.popen("minivirsh", "-c", world.kind, "start", name) for name in names]
    pids = [int(shell.communicate()[0].rsplit(" ", 1)[1]) for shell in shells]
    assert [shell.returncode for shell in shells] == [0] * len(names)
    assert len(set(pids)) == len(names)
    assert world.listed() == {name: (str(pid), "running") for name, pid in zip(names, pids, strict=True)}
    for name, pid in zip(names, pids, strict=True):
        assert f"guest={name},debug-threads=on" in arguments(pid)


def test_two_starts_of_one_guest_at_once_give_one_guest(world: World) -> None:
    world.sh("define", "tiny")
    shells = [world.popen("minivirsh", "-c", world.kind, "start", "tiny") for _ in range(8)]
    outputs = [shell.communicate() for shell in shells]
    assert sorted(shell.returncode for shell in shells) == [0] + [1] * 7
    refusals = [err for _, err in outputs if err]
    assert refusals == ["error: guest 'tiny' is already running\n"] * 7


def test_a_guest_that_ends_by_itself_is_noticed_and_can_start_again(world: World) -> None:
    first = world.start("tiny")
    with watching(first) as ended:
        os.kill(first, signal.SIGKILL)
        ended()
    # The daemon learns it from the kernel as we did; all there is to wait for is its turn.
    until(lambda: world.ask(command="list") == {"guests": []}, "the daemon to notice")
    assert not Path(f"/proc/{first}").exists()
    second = int(world.sh("start", "tiny").rsplit(" ", 1)[1])
    assert second != first and is_alive(second)


@pytest.mark.parametrize("stopping", ["destroy", "the daemon's end"])
def test_a_guest_that_will_not_end_is_killed(root_system: World, stopping: str) -> None:
    root_system.end()
    fifo = root_system.base / "fifo"
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    root_system.env["MINIVIRT_EMULATOR"] = root_system.script(
        f"trap '' TERM; echo deaf >{fifo}; read never <{fifo}"
    )
    root_system.daemonise("--grace", "0.1")
    pid = root_system.start("tiny")
    assert fifo.read_text() == "deaf\n"
    with watching(pid) as ended:
        if stopping == "destroy":
            root_system.sh("destroy", "tiny")
        else:
            root_system.end()
        ended()
    assert not Path(f"/proc/{pid}").exists()


def test_definitions_outlive_the_daemon(world: World) -> None:
    world.sh("define", "tiny", "--memory", "100")
    world.sh("define", "tiny", "--memory", "200")
    world.end()
    world.daemonise()
    assert world.listed() == {"tiny": ("-", "shut off")}
    argv = arguments(int(world.sh("start", "tiny").rsplit(" ", 1)[1]))
    assert argv[argv.index("-m") + 1] == "200"
