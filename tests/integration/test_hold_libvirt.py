"""Holding on a stock libvirt: a worker, a forked child, and the guest's qemu at its first instruction."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import clew
from clew.errors import ClewError
from clew.flow.follow import follow
from clew.trace.reader import Trace
from tests.support.clew_command import CLEW
from tests.support.clew_command import clew as run_clew
from tests.support.libvirt import Libvirt

pytestmark = [pytest.mark.requires("root", "bpf", "libvirt"), pytest.mark.timeout(240)]

GUEST = "clew-test-held"


@pytest.fixture(scope="module")
def defined(libvirt: Libvirt) -> Iterator[str]:
    with libvirt.guest(GUEST) as name:
        yield name


@pytest.fixture
def guest(libvirt: Libvirt, defined: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The guest, shut off, and a runtime folder of our own."""
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    monkeypatch.setenv("CLEW_RUNTIME_DIR", str(run))
    yield defined
    libvirt.run("virsh", "destroy", defined)


def start(libvirt: Libvirt, guest: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        libvirt.inside("virsh", "start", guest), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def runs(libvirt: Libvirt, guest: str) -> bool:
    return libvirt.run("virsh", "domstate", guest).stdout.strip() == b"running"


def test_a_worker_is_held_and_the_daemon_answers(libvirt: Libvirt, guest: str) -> None:
    with clew.holding(f"call:qemuProcessStart,tree={libvirt.daemon}") as holds:
        starting = start(libvirt, guest)
        held = holds.wait(timeout=30)
        assert held.hold.comm in (b"rpc-libvirtd", b"rpc-worker")
        assert held.hold.scope == "thread"
        functions = [frame.function for frame in held.backtrace()]
        assert functions[0] == "qemuProcessStart"
        assert "virNetServerProgramDispatch" in functions
        # `virsh list` would wait: the worker has locked the guest (virDomainObjListExport waits for it).
        assert libvirt.run("virsh", "nodeinfo", timeout=10).returncode == 0
        assert libvirt.run("virsh", "net-list", timeout=10).returncode == 0
        assert starting.poll() is None
        shown = run_clew("gdb", held.id, "--", "-batch", "-ex", "bt")
        assert shown.returncode == 0, shown.stderr.decode()
        frames = [line for line in shown.stdout.decode().splitlines() if line.startswith("#")]
        assert "qemuProcessStart" in frames[0]
        assert any("virNetServerProgramDispatch" in frame for frame in frames)
        held.release()
        assert starting.wait(60) == 0
    assert runs(libvirt, guest)


def test_the_guests_qemu_is_held_and_no_probe_is(libvirt: Libvirt, guest: str) -> None:
    with clew.holding(f"exec:*qemu-system-x86_64,argv=*guest={guest}*") as holds:
        starting = start(libvirt, guest)
        held = holds.wait(timeout=60)
        assert any(f"guest={guest}".encode() in argument for argument in held.hold.argv)
        assert held.hold.at.function == "_start"
        assert b"ld-linux" in held.hold.at.module
        assert len(held.backtrace()) == 1
        held.release()
        assert starting.wait(60) == 0
        assert [event.event for event in holds.events(timeout=0.2)] == ["released"]
    assert runs(libvirt, guest)


def test_a_child_of_the_daemon_waits_inside_clone(libvirt: Libvirt, guest: str) -> None:
    with clew.holding(f"fork:libvirtd,tree={libvirt.daemon}") as holds:
        starting = start(libvirt, guest)
        held, functions = _child_that_will_exec(holds)
        assert held.hold.exact in ("clone", "first-syscall")
        assert any("ork" in function or "clone" in function for function in functions[:2])
        assert functions.index("virCommandRunAsync") < functions.index("qemuProcessLaunch")
        assert "virNetServerProgramDispatch" in functions
        assert holds.release_all()
    assert starting.wait(60) == 0
    assert runs(libvirt, guest)


def _child_that_will_exec(holds: clew.Holding) -> tuple[clew.HeldTask, list[str]]:
    """virExec's child; those that libvirtd forks before, to look at files as another user, are let go."""
    while True:
        held = holds.wait(timeout=60)
        functions = [frame.function for frame in held.backtrace(lines=False)]
        if "virCommandRunAsync" in functions:
            return held, functions
        held.release()


def test_a_recorded_hop_is_stopped_at_on_the_next_run(libvirt: Libvirt, guest: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    virsh = ("virsh", "nodeinfo")
    done = libvirt.run(*CLEW, "record", "-q", "-o", str(trace), "--", *virsh)
    assert done.returncode == 0, done.stderr.decode()
    hops = follow(Trace(trace), whole=True).hops
    sent = next(hop for hop in hops if hop.source.comm == b"virsh" and hop.target.pid == libvirt.daemon)
    recorded = [frame.function for frame in sent.stack_from if frame.function]
    rule = f"hop:{trace}#{sent.n},tree={os.getpid()},n=1"
    with clew.holding(rule) as holds, subprocess.Popen(libvirt.inside(*virsh)) as again:
        held = holds.wait(timeout=30)
        now = [frame.function for frame in held.backtrace() if frame.function]
        assert held.pid == again.pid
        assert now[0] == held.hold.at.function
        assert now[1:] == recorded[recorded.index(now[0]) + 1 :]
        holds.release_all()


def test_a_static_function_that_has_no_name_is_explained() -> None:
    holding = clew.holding("call:libvirt.so.0*!virExec", control=False)
    with pytest.raises(ClewError, match="stripped"), holding:
        pass
