"""Cores of recorded hops: gdb, LLDB and drgn find in them the frames that the chart shows."""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import drgn
import pytest

from tests.support.clew_command import CLEW, clew, complaint, flow_of
from tests.support.programs import build, run_with_testimony

pytestmark = pytest.mark.requires("compiler", "ptrace")

PROGRAM = "helper_answer"
_GDB_FRAME = re.compile(r"^#\d+ +(?:0x[0-9a-f]+ in )?([\w:~<>]+) ", re.MULTILINE)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("core")
    record = (*CLEW, "record", "--engine", "ptrace", "-o", folder / "T", "--")
    done = run_with_testimony(build(PROGRAM), folder, under=[str(word) for word in record])
    assert done.status == 0, done.stderr
    return folder / "T"


@pytest.fixture(scope="module")
def hops(trace: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = flow_of(clew("show", trace, "--json"))["hops"]
    return found


def own_functions(frames: list[dict[str, Any]]) -> list[str]:
    """The functions of the program itself: the C library's have several names each."""
    return [frame["function"] for frame in frames if frame["module"].endswith(PROGRAM) and frame["function"]]


def ends_with_stacks(hops: list[dict[str, Any]]) -> list[tuple[int, list[str], list[str]]]:
    found = []
    for hop in hops:
        for key, words in (("stack_from", []), ("stack_to", ["--to"])):
            if own := own_functions(hop[key]):
                found.append((hop["n"], words, own))
    assert len(found) >= 10
    return found


@pytest.mark.requires("gdb")
def test_gdb_shows_the_frames_of_every_hop(trace: Path, hops: list[dict[str, Any]]) -> None:
    for n, words, own in ends_with_stacks(hops):
        done = clew(
            "gdb", f"{trace}#{n}", *words, "--", "-batch", "-ex", "set backtrace past-main on", "-ex", "bt"
        )
        assert done.returncode == 0, done.stderr
        frames = _GDB_FRAME.findall(done.stdout.decode())
        assert [name for name in frames if name in own] == own, (n, words, frames)


@pytest.mark.requires("gdb")
def test_gdb_shows_arguments(trace: Path, hops: list[dict[str, Any]]) -> None:
    n = next(
        hop["n"] for hop in hops if hop["stack_from"] and "send_letter" in own_functions(hop["stack_from"])
    )
    script = ("-batch", "-ex", "frame function send_letter", "-ex", "info args")
    done = clew("gdb", f"{trace}#{n}", "--", *script)
    assert re.search(rb"^fd = \d+$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(rb"^size = \d+$", done.stdout, re.MULTILINE), done.stdout


def core_of(trace: Path, hops: list[dict[str, Any]], folder: Path) -> tuple[Path, list[str]]:
    n, words, own = next(end for end in ends_with_stacks(hops) if "send_letter" in end[2])
    core = folder / "core"
    done = clew("core", f"{trace}#{n}", *words, "-o", core)
    assert done.returncode == 0, done.stderr
    assert core.stat().st_mode & 0o777 == 0o600
    return core, own


@pytest.mark.requires("lldb")
def test_lldb_opens_it(trace: Path, hops: list[dict[str, Any]], tmp_path: Path) -> None:
    core, own = core_of(trace, hops, tmp_path)
    done = subprocess.run(
        ["lldb", "-b", "-o", "bt", build(PROGRAM), "-c", core], capture_output=True, text=True, check=False
    )
    frames = re.findall(rf"frame #\d+: 0x\w+ {PROGRAM}`(\w+)", done.stdout)
    assert [name for name in frames if name in own][: len(own)] == own, done.stdout


def test_drgn_opens_it(trace: Path, hops: list[dict[str, Any]], tmp_path: Path) -> None:
    core, own = core_of(trace, hops, tmp_path)
    program = drgn.Program()
    program.set_core_dump(str(core))
    with suppress(drgn.MissingDebugInfoError):  # of the C library
        program.load_default_debug_info()
    frames = [frame.name for frame in next(iter(program.threads())).stack_trace()]
    assert [name for name in frames if name in own] == own


@pytest.mark.parametrize("word", ["T#0", "T#99999", "T#x", "#1"])
def test_hops_that_are_not_there(trace: Path, tmp_path: Path, word: str) -> None:
    done = clew("core", word.replace("T", str(trace)), "-o", tmp_path / "c")
    assert done.returncode == 125
    complaint(done)
    assert not (tmp_path / "c").exists()


def test_an_end_without_a_stack_is_said(trace: Path, hops: list[dict[str, Any]], tmp_path: Path) -> None:
    born = next(hop["n"] for hop in hops if hop["kind"] == "spawn")
    done = clew("core", f"{trace}#{born}", "--to", "-o", tmp_path / "c")
    assert "No stack was saved where hop" in complaint(done)
