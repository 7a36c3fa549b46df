"""Holding on a stock libvirt: a worker, a forked child, and the guest's qemu at its first instruction."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import clew
from clew.errors import ClewError
from tests.integration.test_hold_debuggers import CLEW

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="the bpf engine needs root"),
    pytest.mark.skipif(shutil.which("virsh") is None, reason="libvirt is not installed"),
]

GUEST = f"clewhold{os.getpid()}"
DOMAIN = f"""<domain type='qemu'><name>{GUEST}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"""


def virsh(*words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["virsh", *words], capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="module")
def defined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A guest that libvirt knows; defining one can take it half a minute (it asks qemu what it can do)."""
    if virsh("uri").returncode != 0:
        pytest.skip("no libvirtd answers (virtlogd -d; libvirtd -d)")
    description = tmp_path_factory.mktemp("guest") / "guest.xml"
    description.write_text(DOMAIN)
    assert virsh("define", str(description), timeout=120).returncode == 0
    yield GUEST
    virsh("undefine", GUEST)


@pytest.fixture
def guest(defined: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The guest, shut off, and a runtime folder of our own."""
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    monkeypatch.setenv("CLEW_RUNTIME_DIR", str(run))
    yield defined
    virsh("destroy", defined)


def start(guest: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["virsh", "start", guest], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def runs(guest: str) -> bool:
    return virsh("domstate", guest).stdout.strip() == "running"


def test_a_worker_is_held_and_the_daemon_answers(guest: str) -> None:
    with clew.holding("call:qemuProcessStart") as holds:
        starting = start(guest)
        held = holds.wait(timeout=30)
        assert held.hold.comm in (b"rpc-libvirtd", b"rpc-worker")
        assert held.hold.scope == "thread"
        functions = [frame.function for frame in held.backtrace()]
        assert functions[0] == "qemuProcessStart"
        assert "virNetServerProgramDispatch" in functions
        # `virsh list` would wait: the worker has locked the guest (virDomainObjListExport waits for it).
        assert virsh("nodeinfo", timeout=10).returncode == 0
        assert virsh("net-list", timeout=10).returncode == 0
        assert starting.poll() is None
        shown = subprocess.run(
            [*CLEW, "gdb", held.id, "--", "-batch", "-ex", "bt"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        frames = [line for line in shown.stdout.splitlines() if line.startswith("#")]
        assert "qemuProcessStart" in frames[0]
        assert any("virNetServerProgramDispatch" in frame for frame in frames)
        held.release()
        assert starting.wait(60) == 0
    assert runs(guest)


def test_the_guests_qemu_is_held_and_no_probe_is(guest: str) -> None:
    with clew.holding(f"exec:*qemu-system-x86_64,argv=*guest={guest}*") as holds:
        starting = start(guest)
        held = holds.wait(timeout=60)
        assert any(f"guest={guest}".encode() in argument for argument in held.hold.argv)
        assert held.hold.at.function == "_start"
        assert b"ld-linux" in held.hold.at.module
        assert len(held.backtrace()) == 1
        held.release()
        assert starting.wait(60) == 0
        assert [event.event for event in holds.events(timeout=0.2)] == ["released"]
    assert runs(guest)


def test_a_child_of_the_daemon_waits_inside_clone(guest: str) -> None:
    with clew.holding("fork:libvirtd,n=1") as holds:
        starting = start(guest)
        held = holds.wait(timeout=60)
        assert held.hold.exact in ("clone", "first-syscall")
        functions = [frame.function for frame in held.backtrace()]
        assert any("ork" in function or "clone" in function for function in functions[:2])
        assert "virCommandRunAsync" in functions
        held.release()
        assert starting.wait(60) == 0
    assert runs(guest)


def test_a_static_function_that_has_no_name_is_explained(guest: str) -> None:
    with pytest.raises(ClewError, match="stripped"), clew.holding("call:libvirt.so.0*!virExec"):
        pass
