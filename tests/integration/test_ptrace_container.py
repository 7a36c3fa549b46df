"""What ``clew doctor`` and ``clew demo`` do for an ordinary user in namespaces of his own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.clew_command import CONTAINER, clew, complaint, flow_of
from tests.support.libvirt import QEMU

pytestmark = pytest.mark.requires("ptrace", "compiler", "container")


def test_doctor_says_which_engine_and_why() -> None:
    done = clew("doctor", "--json", prefix=CONTAINER)
    assert done.returncode == 0, complaint(done)
    told = json.loads(done.stdout)
    assert told["engine"] == "ptrace"
    assert told["reason"].startswith("not bpf: privileges: ")
    assert "in a user namespace" in told["reason"]
    lacking = {check["name"]: check["remedy"] for check in told["checks"] if not check["ok"]}
    assert "outside" in lacking["privileges"]
    assert "docker run --privileged --pid=host" in lacking["namespaces"]


def test_the_demo_shows_the_path(tmp_path: Path) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    done = clew(
        "demo", "--format", "json", prefix=CONTAINER, environment={**os.environ, "TMPDIR": str(place)}
    )
    assert done.returncode == 0, complaint(done)
    assert "Recording with ptrace" in done.stderr.decode()
    path = [hop for hop in flow_of(done)["hops"] if hop["on_path"]]
    assert {"message", "spawn", "exec"} <= {hop["kind"] for hop in path}
    assert path[-1]["exe"].endswith(QEMU)
    assert list(place.iterdir()) == []
