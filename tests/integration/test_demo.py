"""``clew demo``: the path is shown, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clew.trace.reader import Trace
from tests.support.bounded import until
from tests.support.clew_command import CLEW, clew, complaint, flow_of
from tests.support.libvirt import QEMU, Libvirt, private_folders, private_libvirt
from tests.support.prerequisites import require

DEMO_S = 90


@pytest.fixture
def surroundings() -> Iterator[dict[str, str]]:
    """Where the demo puts what it makes; nothing may be left there, nor run on behalf of it."""
    with tempfile.TemporaryDirectory(prefix="clew-test-") as folder:
        place = Path(folder)
        place.chmod(0o711)
        yield {**os.environ, "TMPDIR": folder}
        assert list(place.iterdir()) == []
        until(lambda: not _running_for(place), what="what the demo started has ended")


def _running_for(place: Path) -> list[int]:
    """Processes that were told of the place."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(place) in told and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def _leads_to_a_guest(flow: dict[str, Any]) -> None:
    path = [hop for hop in flow["hops"] if hop["on_path"]]
    assert path
    assert path[-1]["kind"] == "exec"
    assert path[-1]["exe"].endswith(QEMU) or path[-1]["argv"][0].endswith(QEMU)
    assert any("guest=clew-demo" in word for word in path[-1]["argv"])
    assert path[0]["from"]["pid"] == flow["root"]["pid"]


def test_the_path_through_minivirt(engine: str, surroundings: dict[str, str], tmp_path: Path) -> None:
    words = ("demo", "--engine", engine, "--format", "json", "-o", tmp_path / "trace")
    done = clew(*words, environment=surroundings)
    assert done.returncode == 0, complaint(done)
    flow = flow_of(done)
    _leads_to_a_guest(flow)
    path = [hop for hop in flow["hops"] if hop["on_path"]]
    kinds = [hop["kind"] for hop in path]
    if engine == "bpf":
        assert kinds == ["message", "wake", "message", "spawn", "exec"]
        assert [hop["channel"]["type"] for hop in path if hop["channel"]] == ["unix", "futex", "pipe"]
    assert {"spawn", "exec", "message"} <= set(kinds)
    assert Trace(tmp_path / "trace").finished


def test_people_get_the_text_and_the_command_to_type(surroundings: dict[str, str]) -> None:
    require("ptrace")
    done = clew("demo", environment=surroundings)
    assert done.returncode == 0, complaint(done)
    said = done.stderr.decode()
    assert said.startswith("$ clew follow --until 'exec:*qemu-system-x86_64' -- ")
    assert "reached in" in said
    assert b"started" in done.stdout
    assert b"reached" not in done.stdout


def test_a_demo_told_to_end_cleans_up(surroundings: dict[str, str]) -> None:
    require("root", "bpf")
    place = Path(surroundings["TMPDIR"])
    with subprocess.Popen(
        [*CLEW, "demo"], env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as demo:
        until(lambda: list(place.glob("clew-demo-*/**/minivirtd.pid")), timeout=30, what="the daemon runs")
        demo.send_signal(signal.SIGTERM)
        _, stderr = demo.communicate(timeout=DEMO_S)
    assert demo.returncode in (128 + signal.SIGTERM, 0)
    assert b"Traceback" not in stderr


def test_a_long_name_for_temporary_files_is_no_hindrance(tmp_path: Path) -> None:
    require("ptrace")
    place = tmp_path / ("long" * 25)
    place.mkdir()
    done = clew("demo", "--engine", "ptrace", environment={**os.environ, "TMPDIR": str(place)})
    assert done.returncode == 0, complaint(done)


def test_a_system_that_there_is_not() -> None:
    done = clew("demo", "xen")
    assert done.returncode == 125
    assert b"invalid choice" in done.stderr


@pytest.mark.requires("root", "bpf", "libvirt")
def test_libvirt_that_does_not_run_is_started_and_ended(tmp_path: Path) -> None:
    with private_folders() as libvirt:
        done = _libvirt_demo(libvirt, tmp_path / "trace")
        until(
            lambda: not {b"libvirtd", b"virtlogd"} & set(libvirt.processes()),
            timeout=30,
            what="the daemons end",
        )
    flow = flow_of(done)
    _leads_to_a_guest(flow)
    assert Trace(tmp_path / "trace").finished


@pytest.mark.requires("root", "bpf", "libvirt")
def test_libvirt_that_runs_is_used_and_left_as_it_was(tmp_path: Path) -> None:
    with private_libvirt() as libvirt:
        _leads_to_a_guest(flow_of(_libvirt_demo(libvirt, tmp_path / "trace")))
        listed = libvirt.run("virsh", "-q", "list", "--all")
        assert (listed.returncode, listed.stdout.strip()) == (0, b"")
        assert Path(f"/proc/{libvirt.daemon}").exists()


def _libvirt_demo(libvirt: Libvirt, trace: Path) -> subprocess.CompletedProcess[bytes]:
    done = libvirt.run(*CLEW, "demo", "libvirt", "--format", "json", "-o", str(trace), timeout=DEMO_S)
    assert done.returncode == 0, complaint(done)
    return done


def test_libvirt_that_is_not_installed_is_named(tmp_path: Path) -> None:
    if Path("/usr/sbin/virsh").exists():
        pytest.skip("virsh is where it is looked for without PATH")
    done = clew("demo", "libvirt", environment={**os.environ, "PATH": str(tmp_path)})
    assert done.returncode == 127
    assert "apt install libvirt-clients" in complaint(done)
