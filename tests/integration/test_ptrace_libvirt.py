"""An ordinary user's libvirt (qemu:///session), its daemon started on demand, followed to QEMU."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import clew
from clew.flow.follow import Target, follow
from clew.model.flow import Flow, Hop, HopKind
from clew.model.rules import parse_target
from clew.trace.reader import Trace
from tests.support.bounded import until
from tests.support.nobody import as_nobody, shared_folder
from tests.support.tracing import record, status_field

pytestmark = [pytest.mark.requires("compiler", "libvirt"), pytest.mark.timeout(400)]

VIRSH = ("virsh", "-q", "-c", "qemu:///session")
DOMAIN = """<domain type='qemu'><name>mine</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64'>hvm</type></os></domain>"""
UNTIL = "exec:*qemu-system-x86_64"


@pytest.fixture
def folder() -> Iterator[Path]:
    """An ordinary user's folder; whatever daemon or guest of his still runs in it is ended."""
    with shared_folder() as path:
        try:
            yield path
        finally:
            for pid in _daemons(path):
                os.kill(pid, signal.SIGKILL)


def _daemons(folder: Path) -> list[int]:
    """Processes with our runtime folder in their environment."""
    mark = f"XDG_RUNTIME_DIR={folder / 'run'}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (path / "environ").read_bytes().split(b"\0") and int(path.name) != os.getpid():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def _define(work: Path) -> None:
    (work / "mine.xml").write_text(DOMAIN)
    subprocess.run([*VIRSH, "define", "mine.xml"], cwd=work, check=True, timeout=60)


def _start_recorded(work: Path) -> None:
    outcome = record(work, *VIRSH, "start", "mine").outcome
    assert (outcome.wait_status, outcome.lost) == (0, {})
    assert any("live on" in note for note in outcome.notes)


def _start_held(work: Path) -> None:
    """Hold the guest's qemu, started by a daemon that is itself started on demand."""
    rule = "exec:*qemu-system-x86_64,argv=*guest=mine*"
    with clew.holding(rule, engine="ptrace") as holds:
        starting = holds.start([*VIRSH, "start", "mine"])
        held = holds.wait(timeout=120)
        assert (held.hold.exact, held.hold.at.function) == ("entry", "_start")
        assert starting.poll() is None
        held.release()
        assert starting.wait(60) == 0


def _works_and_ends(work: Path) -> None:
    listed = subprocess.run([*VIRSH, "list"], check=True, capture_output=True, text=True, timeout=60)
    assert "mine" in listed.stdout
    assert "running" in listed.stdout
    subprocess.run([*VIRSH, "destroy", "mine"], check=True, timeout=60)


def _stop_daemons(folder: Path) -> list[int]:
    """End the session's daemons; who traced them."""
    pids = _daemons(folder)
    tracers = [int(status_field(pid, "TracerPid") or 0) for pid in pids]
    for pid in pids:
        if not status_field(pid, "Name").startswith(("clew-tracer", "clew-heir")):
            os.kill(pid, signal.SIGTERM)
    until(lambda: not _daemons(folder), timeout=60, what="the session's end")
    return [tracer for tracer in tracers if tracer]


def _path(flow: Flow) -> list[Hop]:
    by_number = {hop.n: hop for hop in flow.hops}
    return [by_number[n] for n in flow.path]


def test_the_guest_is_held_and_the_daemon_lives_on_untraced(folder: Path) -> None:
    as_nobody(folder, _define)
    _stop_daemons(folder)
    as_nobody(folder, _start_held)
    as_nobody(folder, _works_and_ends)
    assert _daemons(folder)
    assert _stop_daemons(folder) == []


def test_from_virsh_to_the_guest(folder: Path) -> None:
    as_nobody(folder, _define)
    _stop_daemons(folder)
    as_nobody(folder, _start_recorded)
    as_nobody(folder, _works_and_ends)
    assert _stop_daemons(folder), "the daemon lived on, and its tracer with it"
    flow = follow(Trace(folder / "work" / "trace"), Target(UNTIL, parse_target(UNTIL)))
    path = _path(flow)
    assert path[-1].kind is HopKind.EXEC
    assert any(b"guest=mine" in argument for argument in path[-1].argv)
    kinds = [hop.kind for hop in path]
    (message,) = [hop for hop in path if hop.kind is HopKind.MESSAGE]
    assert (message.source.comm, message.source.pid) == (b"virsh", flow.root.pid)
    assert message.channel is not None
    assert message.channel.type == "unix"
    assert any("virDomainCreate" in frame.function for frame in message.stack_from)
    after = kinds[kinds.index(HopKind.MESSAGE) :]
    assert after == [HopKind.MESSAGE, HopKind.WAKE, HopKind.SPAWN, HopKind.SPAWN, HopKind.EXEC]
    (fork, _) = [hop for hop in path if hop.kind is HopKind.SPAWN][-2:]
    functions = [frame.function for frame in fork.stack_from]
    assert functions.index("virCommandRunAsync") < functions.index("qemuProcessLaunch")
