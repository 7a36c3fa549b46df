"""Holding on a stock libvirt: a worker, a forked child, and the guest's qemu at its first instruction."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import clew
from clew.errors import ClewError
from clew.flow.follow import follow
from clew.kernel import procfs
from clew.trace.reader import Trace
from tests.support.bounded import until
from tests.support.clew_command import CLEW
from tests.support.libvirt import Libvirt

pytestmark = pytest.mark.requires("root", "bpf", "gdb", "libvirt")


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest of a libvirt of our own, shut off at first."""

    libvirt: Libvirt
    name: str

    def rule(self, text: str) -> str:
        """The rule, for this libvirt: the machine's own may be in use."""
        return f"{text},tree={self.libvirt.daemon}"

    def virsh(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        command = self.libvirt.inside("virsh", *words)
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(self.libvirt.inside("virsh", *words), stdout=subprocess.PIPE, text=True)

    def start(self) -> subprocess.Popen[str]:
        return self.begin("start", self.name)

    def runs(self) -> bool:
        return self.virsh("domstate", self.name).stdout.strip() == "running"


@pytest.fixture
def guest(libvirt: Libvirt, runtime: Path) -> Iterator[Guest]:
    """The guest, shut off, and a runtime folder of our own."""
    with libvirt.guest("clewhold") as name:
        yield Guest(libvirt, name)


def waits_for_a_mutex(pid: int) -> bool:
    """Whether some thread waits for a mutex: FUTEX_WAIT_PRIVATE for as long as it is 2, contended."""
    calls = [Path(f"/proc/{pid}/task/{tid}/syscall").read_text().split() for tid in procfs.threads(pid)]
    return any(call[0] == "202" and call[2:4] == ["0x80", "0x2"] for call in calls)


def test_a_worker_is_held_and_the_daemon_answers(guest: Guest) -> None:
    with clew.holding(guest.rule("call:qemuProcessStart")) as holds:
        starting = guest.start()
        held = holds.wait(timeout=30)
        assert held.hold.comm in (b"rpc-libvirtd", b"rpc-worker")
        assert held.hold.scope == "thread"
        functions = [frame.function for frame in held.backtrace()]
        assert functions[0] == "qemuProcessStart"
        assert "virNetServerProgramDispatch" in functions
        assert guest.virsh("nodeinfo", timeout=10).returncode == 0
        assert guest.virsh("net-list", timeout=10).returncode == 0
        # Whoever asks for this guest waits for libvirt's own lock on it, which the worker has.
        listing = guest.begin("list")
        until(lambda: waits_for_a_mutex(held.pid), what="virsh list waits for the guest's lock")
        assert starting.poll() is None
        assert listing.poll() is None
        shown = subprocess.run(
            [*CLEW, "gdb", held.id, "--", "-batch", "-ex", "bt", "-ex", "thread apply all bt 8"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        frames = [line for line in shown.stdout.splitlines() if line.startswith("#")]
        assert "qemuProcessStart" in frames[0]
        assert any("virNetServerProgramDispatch" in frame for frame in frames)
        lister = next(text for text in shown.stdout.split("\nThread ") if "virDomainObjListExport" in text)
        assert "pthread_mutex_lock" in lister
        held.release()
        assert guest.name in listing.communicate(timeout=60)[0]
        assert starting.wait(60) == 0
    assert guest.runs()


def test_where_libvirt_has_not_locked_the_guest_list_answers(guest: Guest) -> None:
    with clew.holding(guest.rule("call:qemuMonitorSetCapabilities")) as holds:
        starting = guest.start()
        held = holds.wait(timeout=60)
        assert "qemuProcessStart" in [frame.function for frame in held.backtrace()]
        assert guest.name in guest.virsh("list", timeout=10).stdout
        held.release()
        assert starting.wait(60) == 0
    assert guest.runs()


def test_the_guests_qemu_is_held_and_no_probe_is(guest: Guest) -> None:
    with clew.holding(f"exec:*qemu-system-x86_64,argv=*guest={guest.name}*") as holds:
        starting = guest.start()
        held = holds.wait(timeout=60)
        assert any(f"guest={guest.name}".encode() in argument for argument in held.hold.argv)
        assert held.hold.at.function == "_start"
        assert b"ld-linux" in held.hold.at.module
        assert len(held.backtrace()) == 1
        held.release()
        assert starting.wait(60) == 0
        assert [event.event for event in holds.events(timeout=0.2)] == ["released"]
    assert guest.runs()


def test_a_child_of_the_daemon_waits_inside_clone(guest: Guest) -> None:
    with clew.holding(guest.rule("fork:libvirtd")) as holds:
        starting = guest.start()
        functions: list[str] = []
        while "virCommandRunAsync" not in functions:  # It forks for other things too.
            held = holds.wait(timeout=60)
            assert held.hold.exact in ("clone", "first-syscall")
            functions = [frame.function for frame in held.backtrace()]
            assert any("ork" in function or "clone" in function for function in functions[:2])
            held.release()
        assert "virNetServerProgramDispatch" in functions

        def ended() -> bool:
            holds.release_all()
            return starting.poll() is not None

        until(ended, timeout=60, what="the guest starts")
    assert guest.runs()


def test_a_recorded_hop_is_stopped_at_on_the_next_run(guest: Guest, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    done = guest.libvirt.run(*CLEW, "record", "-q", "-o", str(trace), "--", "virsh", "nodeinfo")
    assert done.returncode == 0, done.stderr.decode()
    hops = follow(Trace(trace), whole=True).hops
    sent = next(hop for hop in hops if hop.source.comm == b"virsh" and hop.target.pid == guest.libvirt.daemon)
    recorded = [frame.function for frame in sent.stack_from if frame.function]
    with (
        clew.holding(f"hop:{trace}#{sent.n},tree={os.getpid()},n=1") as holds,
        guest.begin("nodeinfo") as again,
    ):
        held = holds.wait(timeout=30)
        now = [frame.function for frame in held.backtrace() if frame.function]
        assert held.pid == again.pid
        assert now[0] == held.hold.at.function
        assert now[1:] == recorded[recorded.index(now[0]) + 1 :]
        holds.release_all()


def test_a_static_function_that_has_no_name_is_explained(guest: Guest) -> None:
    with pytest.raises(ClewError, match="stripped"), clew.holding("call:libvirt.so.0*!virExec"):
        pass
