"""A part of the bpf engine that the kernel refuses: it is off, and said to be, and nothing else is.

The refusals are this kernel's own: each object is our probe with one instruction that no verifier takes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import clew
from clew.cli import doctor_checks
from clew.cli.doctor_checks import examine, verdict
from clew.cli.main import main
from clew.engine.bpf import hold_probes, parts, recorder
from clew.errors import PartRefused

pytestmark = pytest.mark.requires("root", "bpf", "clang")
WRONG = r"\t*(volatile u64 *)8 = 0;\n"
PROBES = parts.RECORDING.ways[0].path.parent


def _wrong(part: parts.Part, program: str, folder: Path) -> parts.Part:
    """``part`` with an instruction in ``program`` that a verifier refuses."""
    import hatch_build

    way = part.way()
    assert way is not None
    shutil.copytree(PROBES, folder, ignore=shutil.ignore_patterns("*.o"))
    for path in folder.glob("*.bpf.[ch]"):
        text = path.read_text()
        path.write_text(re.sub(rf"(int {program}\(\w+ \*ctx\)\n{{\n)", rf"\1{WRONG}", text))
    hatch_build.compile_probe(hatch_build.bpf_compiler(), folder / f"{way.object}.bpf.c")
    return replace(part, ways=(replace(way, object=str(folder / way.object)),))


Refuse = Callable[[str, str], None]


@pytest.fixture
def refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Have the kernel refuse the part of this name, for this program's sake."""

    def now(name: str, program: str) -> None:
        part = _wrong(getattr(parts, name), program, tmp_path / name)
        for module in (parts, recorder, hold_probes, doctor_checks):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, part)

    return now


def test_a_recording_that_is_refused_names_part_kernel_and_remedy(
    refuse: Refuse, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refuse("RECORDING", "record_exec")
    with pytest.raises(PartRefused) as refused:
        main(["record", "--engine", "bpf", "-o", str(tmp_path / "T"), "--", "true"])
    assert f"Linux {os.uname().release} refuses the bpf engine's recording." in refused.value.cause
    assert "--engine ptrace" in refused.value.remedy
    assert "-v" in refused.value.remedy
    assert "processed" not in capfd.readouterr().err
    assert not (tmp_path / "T").exists()


def test_verbose_shows_the_verifiers_last_words(
    refuse: Refuse, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refuse("RECORDING", "record_exec")
    with pytest.raises(PartRefused):
        main(["record", "-v", "--engine", "bpf", "-o", str(tmp_path / "T"), "--", "true"])
    assert "R1 invalid mem access" in capfd.readouterr().err


@pytest.mark.requires("ptrace")
def test_auto_records_with_the_engine_that_doctor_picks(
    refuse: Refuse, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refuse("RECORDING", "record_exec")
    assert main(["record", "-o", str(tmp_path / "T"), "--", "sh", "-c", "exit 3"]) == 3
    assert "refuses the bpf engine's recording" in capfd.readouterr().err
    engine = json.loads((tmp_path / "T" / "meta.json").read_text())["engine"]
    assert engine == verdict(examine(), "recording").engine == "ptrace"
    assert verdict(examine(), "holds").engine == "bpf"


@pytest.mark.requires("ptrace")
def test_auto_holds_with_the_engine_that_doctor_picks(refuse: Refuse) -> None:
    refuse("HOLDS", "hold_exec")
    assert verdict(examine(), "holds").engine == "ptrace"
    assert verdict(examine(), "recording").engine == "bpf"
    with clew.holding("exec:true", command=[b"true"], control=False) as holds:
        process = holds.start(["true"])
        held = holds.wait(timeout=10)
        assert (held.pid, held.hold.exact) == (process.pid, "entry")
        held.release()
        assert process.wait(10) == 0


def test_holds_that_no_other_engine_can_make_say_why(refuse: Refuse) -> None:
    refuse("HOLDS", "hold_exec")
    with pytest.raises(PartRefused, match="refuses the bpf engine's holds"):
        clew.holding("exec:clew-test-none", control=False).__enter__()
    with clew.holding(f"fork:clew-test-none{os.getpid()}", control=False):
        pass  # another program of the same part, which the kernel takes


@pytest.mark.requires("task-work")
def test_crash_holds_that_are_refused_take_nothing_else_along(refuse: Refuse, tmp_path: Path) -> None:
    refuse("CRASH_HOLDS", "hold_fatal")
    assert verdict(examine(), "holds").engine == verdict(examine(), "recording").engine == "bpf"
    name = f"clew-test-c{os.getpid()}"
    program = tmp_path / name
    shutil.copy("/bin/sleep", program)
    with clew.holding(f"signal:QUIT,exe={name}", f"exec:{name}", control=False) as holds:
        process = subprocess.Popen([program, "60"])
        held = holds.wait(timeout=10)
        assert held.hold.exact == "entry"
        held.release()
        process.send_signal(signal.SIGQUIT)
        assert process.wait(10) == -signal.SIGQUIT
