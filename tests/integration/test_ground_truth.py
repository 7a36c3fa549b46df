"""clew's flow against the testimony of programs that know what they did, on both engines."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clew.view.escape import json_text
from tests.support.agreement import disagreements
from tests.support.comparison import differences
from tests.support.programs import Run, Source, build, run_with_testimony, source, sources
from tests.support.testimony import Arguments, Frames, Named, Task

CLEW = (sys.executable, "-c", "from clew.cli.main import run; raise SystemExit(run())")


@pytest.fixture(
    params=[
        pytest.param("bpf", marks=pytest.mark.requires("root", "bpf")),
        pytest.param("ptrace", marks=pytest.mark.requires("ptrace", "compiler")),
    ]
)
def engine(request: pytest.FixtureRequest) -> str:
    """The engine to follow with."""
    name: str = request.param
    return name


# A recording made once serves every test that only looks at it.
_runs: dict[tuple[str, str, str, str], Run] = {}


def _follow(origin: Source, engine: str, folder: Path, variant: str = "", form: str = "json") -> Run:
    key = (origin.name, engine, variant, form)
    if key not in _runs:
        _runs[key] = _record(origin, engine, folder, variant, form)
    return _runs[key]


def _record(origin: Source, engine: str, folder: Path, variant: str, form: str) -> Run:
    if origin.lack():
        pytest.skip(origin.lack())
    trace = str(folder / "trace")
    under = [*CLEW, "follow", "--engine", engine, "--format", form, "-o", trace, "--"]
    work = folder / "work"
    work.mkdir()
    run = run_with_testimony(build(origin.name, variant), work, under=under)
    assert run.status == 0, run.stderr.decode(errors="replace")
    return run


def _flow(run: Run) -> dict[str, Any]:
    flow: dict[str, Any] = json.loads(run.stdout)
    assert not any(flow["events"]["lost"].values())
    return flow


@pytest.mark.parametrize("origin", sources(), ids=lambda origin: origin.name)
def test_the_flow_is_what_the_program_did(origin: Source, engine: str, tmp_path: Path) -> None:
    run = _follow(origin, engine, tmp_path)
    wrong = differences(_flow(run), run.testimony)
    if wrong:
        _runs.clear()  # what runs this again is to record again
    assert wrong == []


@pytest.mark.parametrize("origin", sources(), ids=lambda origin: origin.name)
def test_hops_are_numbered_in_time(origin: Source, engine: str, tmp_path: Path) -> None:
    hops = _flow(_follow(origin, engine, tmp_path))["hops"]
    assert [hop["n"] for hop in hops] == list(range(1, len(hops) + 1))
    left = [hop["t_ms"] for hop in hops]
    assert left == sorted(left)
    assert left[0] >= 0


@pytest.mark.requires("root", "bpf", "ptrace", "compiler")
@pytest.mark.parametrize("origin", sources(), ids=lambda origin: origin.name)
def test_both_engines_tell_the_same(origin: Source, tmp_path: Path) -> None:
    flows = []
    for engine in ("bpf", "ptrace"):
        folder = tmp_path / engine
        folder.mkdir()
        flows.append(_flow(_follow(origin, engine, folder)))
    wrong = disagreements(*flows)
    assert not wrong, "\n".join(wrong)


def test_a_message_names_the_functions_that_sent_it(engine: str, tmp_path: Path) -> None:
    for name in ("static_chain", "overloads"):
        folder = tmp_path / name
        folder.mkdir()
        run = _follow(source(name), engine, folder)
        for stack, told in _stacks_told(run):
            functions = [_bare(frame["function"]) for frame in stack]
            wanted = [_bare(function) for function in told.functions]
            start = functions.index(wanted[0])
            assert functions[start : start + len(wanted)] == wanted


def test_a_stripped_program_unwinds_as_deep(engine: str, tmp_path: Path) -> None:
    run = _follow(source("static_chain"), engine, tmp_path, "stripped")
    ((stack, told),) = _stacks_told(run)
    own = [frame for frame in stack if frame["module"] == str(build("static_chain", "stripped"))]
    assert len(own) >= len(told.functions)
    assert all(frame["offset"] > 0 for frame in own)
    assert len({frame["offset"] for frame in own}) == len(own)


def test_hostile_names_arrive_whole(engine: str, tmp_path: Path) -> None:
    run = _follow(source("hostile_names"), engine, tmp_path)
    hops = _flow(run)["hops"]
    (executed,) = [hop for hop in hops if hop["kind"] == "exec"]
    (told,) = [s for s in run.testimony.statements if isinstance(s, Arguments)]
    assert executed["argv"] == [json_text(argument) for argument in told.argv]
    names = {s.task: json_text(s.comm) for s in run.testimony.statements if isinstance(s, Named)}
    senders = [hop["from"] for hop in hops if hop["kind"] == "message"]
    assert [sender["comm"] for sender in senders] == [
        names[Task(sender["pid"], sender["tid"])] for sender in senders
    ]


@pytest.mark.parametrize("form", ["text", "json", "mermaid", "svg"])
def test_no_view_prints_a_hostile_name_raw(form: str, engine: str, tmp_path: Path) -> None:
    run = _follow(source("hostile_names"), engine, tmp_path, form=form)
    shown = (run.stderr if form == "text" else run.stdout).decode()
    assert "hostile_names" in shown  # names too long for a view are cut; JSON cuts nothing
    assert form != "json" or "pwned" in shown
    acting = [c for c in shown if (ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2066"]
    assert acting == []
    # Text and JSON are no markup: there the letters mean nothing.
    assert form in ("text", "json") or "<script>" not in shown


def _stacks_told(run: Run) -> Iterator[tuple[list[dict[str, Any]], Frames]]:
    """Each statement of frames with the backtrace of the message it is about: both are in order."""
    sent: dict[Task, list[list[dict[str, Any]]]] = defaultdict(list)
    for hop in _flow(run)["hops"]:
        if hop["kind"] == "message":
            sent[Task(hop["from"]["pid"], hop["from"]["tid"])].append(hop["stack_from"])
    for told in run.testimony.statements:
        if isinstance(told, Frames):
            yield sent[told.task].pop(0), told


def _bare(function: str) -> str:
    """A function's qualified name without its result and parameters, which debuggers write differently."""
    return function.partition("(")[0].rpartition(" ")[2]
