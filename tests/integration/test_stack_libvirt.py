"""A stock libvirtd, stripped and with every thread asleep, against gdb."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clew.stack.session import UnwindSession
from clew.stack.telling import label, telling
from tests.integration.test_stack_unwind import functions, same_as_gdb
from tests.support.bounded import until
from tests.support.capture import capture, gdb_frames
from tests.support.nobody import NOBODY, shared_folder

pytestmark = [pytest.mark.requires("root", "ptrace", "gdb", "libvirt"), pytest.mark.timeout(240)]

# A poll that was stopped and let go on again is a restart_syscall.
WAITS = {"7": "poll", "202": "futex", "219": "restart_syscall"}


@pytest.fixture(scope="module")
def libvirtd() -> Iterator[int]:
    """The pid of a session daemon of our own, run by nobody: it shares nothing with the system's."""
    with shared_folder() as folder:
        yield from _session_daemon(folder / "run")


def _session_daemon(home: Path) -> Iterator[int]:
    environment = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    with subprocess.Popen(["libvirtd"], user=NOBODY, group=NOBODY, env=environment) as daemon:
        try:
            socket = home / "libvirt" / "libvirt-sock"
            until(lambda: _answers(socket, environment), timeout=60, what="libvirtd answers")
            yield daemon.pid
        finally:
            daemon.terminate()


def _answers(socket: Path, environment: dict[str, str]) -> bool:
    command = ["virsh", "-c", f"qemu+unix:///session?socket={socket}", "list"]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


def _idle(pid: int) -> bool:
    """Whether every thread waits for work."""
    waits = [path.read_text().split()[0] for path in Path(f"/proc/{pid}/task").glob("*/syscall")]
    return len(waits) > 10 and all(wait in WAITS for wait in waits)


def test_every_thread_has_the_backtrace_that_gdb_gives(libvirtd: int, tmp_path: Path) -> None:
    until(lambda: _idle(libvirtd), timeout=60, what="libvirtd idle")
    moment = capture(libvirtd)
    expected = gdb_frames(libvirtd, tmp_path)
    assert len(moment.samples) > 10
    session = UnwindSession()
    walks = {tid: session.walk(sample, moment.mappings) for tid, sample in moment.samples.items()}
    session.name_all(walks.values())
    for tid, spots in walks.items():
        same_as_gdb(session.backtrace(spots), expected[tid], moment.mappings)
    assert session.problems == {}


def test_threads_are_named_by_what_they_do(libvirtd: int) -> None:
    until(lambda: _idle(libvirtd), timeout=60, what="libvirtd idle")
    moment = capture(libvirtd)
    session = UnwindSession()
    main = session.unwind(moment.samples[libvirtd], moment.mappings)
    assert {"virEventGLibRunOnce", "virNetDaemonRun", "main"} <= set(functions(main))
    assert "poll" not in functions(telling(main))
    labels = {
        Path(f"/proc/{libvirtd}/task/{tid}/comm").read_text().strip(): label(
            session.unwind(sample, moment.mappings)
        )
        for tid, sample in moment.samples.items()
    }
    assert labels["rpc-libvirtd"] == "virCondWait"
