"""Recording and following: programs that testify, the miniature, the real libvirt."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

LOST = "; lost: "
_LOST = {"stack": "backtraces", "skipped": "events that the kernel left out"}
CLEW = (sys.executable, "-c", "from clew.cli.main import run; run()")


def ground_truth(engine: str) -> str:
    """tests/integration/test_ground_truth.py on one engine.  AssertionError with what failed."""
    with tempfile.TemporaryDirectory(prefix="clew-kernels-") as folder:
        told = Path(folder, "junit.xml")
        addopts = "addopts=--import-mode=importlib -p no:cacheprovider"
        command = [sys.executable, "-m", "pytest", "-q", "-n2", "-o", addopts, f"--junitxml={told}"]
        test = "tests/integration/test_ground_truth.py"
        chosen = f"{engine} and not numbered and not no_view"
        done = subprocess.run([*command, test, "-k", chosen], capture_output=True, text=True, check=False)
        assert told.exists(), done.stdout[-2000:] + done.stderr[-2000:]
        (suite,) = ElementTree.parse(told).getroot().iter("testsuite")
    ran, failed, skipped = (int(suite.get(name, "0")) for name in ("tests", "failures", "skipped"))
    failed += int(suite.get("errors", "0"))
    assert not failed and done.returncode == 0, _failures(done.stdout)
    assert ran - skipped >= 30, f"only {ran - skipped} of {ran} ran"
    return f"{ran - skipped} programs and views as they testify, {skipped} cannot run there"


def _failures(said: str) -> str:
    return "\n".join(line for line in said.splitlines() if line.startswith(("FAILED", "ERROR", "E  ")))[:3000]


def minivirt(engine: str) -> str:
    """``clew demo minivirt``: the path from its shell to its guest."""
    return _demo("minivirt", engine, 4)


def libvirt() -> str:
    """``clew demo libvirt``: the path from virsh to qemu, on the libvirt of that release."""
    version = subprocess.run(["virsh", "--version"], capture_output=True, text=True, check=True).stdout
    return f"libvirt {version.strip()}: {_demo('libvirt', 'bpf', 4)}"


def _demo(which: str, engine: str, least: int) -> str:
    done = subprocess.run(
        [*CLEW, "demo", which, "--engine", engine, "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "120"},
    )
    said = done.stderr[-2000:]
    assert done.returncode == 0, f"exit status {done.returncode}: {said}"
    begin = done.stdout.index("{")
    flow = json.loads(done.stdout[begin:])
    hops = {hop["n"]: hop for hop in flow["hops"]}
    path = [hops[n] for n in flow["path"]]
    assert len(path) >= least, f"the path has {len(path)} hops: {said}"
    assert path[-1]["kind"] == "exec" and re.search("qemu-system", path[-1]["exe"]), path[-1]
    # An emulated recorder may be too slow for all stacks of a busy machine, and Linux 7 leaves a program out
    # where a task was preempted amid bpf(2) (bpf_disable_instrumentation).  Both are told, and no fault.
    lost = {kind: count for kind, count in flow["events"]["lost"].items() if count}
    assert not lost.keys() - _LOST.keys(), lost
    told = "".join(f"{LOST}{count:,} {_LOST[kind]}" for kind, count in lost.items())
    return f"{len(path)} hops to {Path(path[-1]['exe']).name}{told}"


def stacks() -> str:
    """A hop's backtrace goes out to main."""
    with tempfile.TemporaryDirectory(prefix="clew-kernels-") as folder:
        trace = Path(folder, "T")
        command = [*CLEW, "follow", "--engine", "bpf", "--json", "-o", str(trace), "--"]
        script = "sh -c true | cat"
        done = subprocess.run([*command, "sh", "-c", script], capture_output=True, check=True)
        flow = json.loads(done.stdout)
    deep = [hop for hop in flow["hops"] if len(hop["stack_from"]) >= 3]
    assert deep, "no hop has a backtrace of three frames"
    return f"{len(deep)} of {len(flow['hops'])} hops with three frames or more"
