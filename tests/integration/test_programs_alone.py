"""The programs themselves: each, run alone, does what it says and testifies as many hops as it should."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.programs import Source, build, run_with_testimony, source, sources
from tests.support.testimony import Arguments, Credentials, Frames, Named, Task, Testimony


def _run(origin: Source, folder: Path, variant: str = "") -> Testimony:
    if origin.lack():
        pytest.skip(origin.lack())
    run = run_with_testimony(build(origin.name, variant), folder)
    assert run.status == 0, run.stderr.decode(errors="replace")
    assert run.stdout == b""
    return run.testimony


@pytest.mark.parametrize("origin", sources(), ids=lambda origin: origin.name)
def test_testifies_the_hops_it_promises(origin: Source, tmp_path: Path) -> None:
    counts = _run(origin, tmp_path).counts()
    assert set(counts) == {kind for kind, _, _ in origin.expected}
    for kind, relation, count in origin.expected:
        assert counts[kind] >= count if relation == ">=" else counts[kind] == count, kind


@pytest.mark.parametrize("origin", sources(), ids=lambda origin: origin.name)
def test_every_task_it_names_was_born_in_it(origin: Source, tmp_path: Path) -> None:
    testimony = _run(origin, tmp_path)
    spawned = [hop.target for hop in testimony.hops if hop.kind == "spawn"]
    named = {task for hop in testimony.hops for task in (hop.source, hop.target)}
    assert len(set(spawned)) == len(spawned)
    (root,) = named - set(spawned)
    assert root.pid == root.tid


@pytest.mark.parametrize("origin", sources(), ids=lambda origin: origin.name)
def test_a_message_has_two_ends_and_some_bytes(origin: Source, tmp_path: Path) -> None:
    for hop in _run(origin, tmp_path).hops:
        assert (hop.kind == "message") == (hop.size > 0)
        assert (hop.kind == "exec") == (hop.source.pid == hop.target.pid and hop.exe != b"")
        assert hop.kind == "exec" or hop.source != hop.target


@pytest.mark.parametrize(
    "origin", [o for o in sources() if len(o.variants) > 1], ids=lambda origin: origin.name
)
def test_a_stripped_copy_testifies_the_same(origin: Source, tmp_path: Path) -> None:
    assert build(origin.name, "stripped").stat().st_size < build(origin.name).stat().st_size
    testimony = _run(origin, tmp_path, "stripped")
    assert [len(s.functions) for s in testimony.statements if isinstance(s, Frames)] == [13]


def test_hostile_names_survive_the_testimony(tmp_path: Path) -> None:
    testimony = _run(source("hostile_names"), tmp_path)
    names = [s.comm for s in testimony.statements if isinstance(s, Named)]
    arguments = [s.argv for s in testimony.statements if isinstance(s, Arguments)]
    assert names == [b"\x1b[5mmain)\n", b"\x1b[7m<b>&\n) S 9", b"\xff\t[red]\"'`;--"]
    assert len(arguments) == 1
    assert arguments[0][0] == b"\x1b]0;pwned\x07guest\n"
    assert arguments[0][-1] == b""


def test_dropped_privileges_are_gone(tmp_path: Path) -> None:
    testimony = _run(source("drop_privileges"), tmp_path)
    before, after = [s for s in testimony.statements if isinstance(s, Credentials)]
    assert (before.uid, after.uid, after.gid, after.capabilities) == (0, 65534, 65534, 0)
    assert before.task == Task(before.task.pid, before.task.pid) != after.task


@pytest.mark.parametrize("name", ["static_chain", "overloads"])
def test_the_functions_it_names_are_in_it(name: str, tmp_path: Path) -> None:
    told = [s.functions for s in _run(source(name), tmp_path).statements if isinstance(s, Frames)]
    symbols = subprocess.run(["nm", "-C", build(name)], check=True, capture_output=True, text=True).stdout
    defined = {line.split(" ", 2)[2] for line in symbols.splitlines() if line[:1] != " "}
    assert {function for functions in told for function in functions} <= defined
    assert len(told) == {"static_chain": 1, "overloads": 4}[name]
