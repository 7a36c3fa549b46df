"""Traces that are cut short, damaged or made up: a view or one clear paragraph, and never a traceback."""

from __future__ import annotations

import io
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from clew.cli.main import main
from clew.errors import ClewError
from clew.kernel import confine
from clew.trace.layout import FRAMED_EVENT
from clew.trace.spool import FRAMES, META, SPOOLS
from tests.support.clew_command import clew, complaint
from tests.support.prerequisites import require

FILES = (META, FRAMES, *(f"{name}.spool" for name in SPOOLS))
CUTS_PER_FILE = 34
FLIPS_PER_FILE = {"stacks.spool": 15, "maps.spool": 15}  # unwinding anew takes its time
MOST_FLIPS = 60
SCRIPT = "echo hi | cat; (exit 3); kill -USR1 $$ || :"


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of damaged traces are read here, and not each in a child without rights (cli/apart.py)."""
    monkeypatch.setattr(confine, "is_privileged", lambda: False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trace, with its backtraces kept."""
    require("ptrace")
    trace = tmp_path_factory.mktemp("whole") / "trace"
    done = clew("follow", "-q", "--engine", "ptrace", "-o", trace, "--", "sh", "-c", f"trap : USR1; {SCRIPT}")
    assert done.returncode == 0, complaint(done)
    assert {path.name for path in trace.iterdir()} == set(FILES)
    return trace


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Callable[[str], Path]:
    """``copy(FILE)``: a copy of the trace in which FILE counts; what could stand in for it is left out."""

    def make(file: str) -> Path:
        place = tmp_path / "copy"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(whole, place)
        if file in ("stacks.spool", "maps.spool"):
            (place / FRAMES).unlink()
        return place

    return make


def _run(*words: str | Path) -> str:
    """What the command prints; "" if it failed with one of our errors, which then says something."""
    out = io.StringIO()
    with redirect_stdout(out), warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            assert main([str(word) for word in words]) == 0
        except ClewError as error:
            assert error.cause
            assert "\n" not in error.cause
            return ""
    return out.getvalue()


def _places(file: Path, count: int) -> Iterator[int]:
    """Offsets in the file: its ends, and others anywhere."""
    size = file.stat().st_size
    chance = random.Random(file.name)
    yield from {0, 1, 7, 8, 9, size - 1, size - 8}
    yield from (chance.randrange(size) for _ in range(count - 7))


@pytest.mark.parametrize("file", FILES)
def test_a_trace_cut_at_any_byte(file: str, copy: Callable[[str], Path]) -> None:
    shown = []
    for at in _places(copy(file) / file, CUTS_PER_FILE):
        trace = copy(file)
        with (trace / file).open("r+b") as spool:
            spool.truncate(at)
        shown.append(_run("show", trace, "--json"))
        _run("recover", trace)
        _run("show", trace)
    if file not in (META, FRAMES):
        assert any(shown)


@pytest.mark.parametrize("file", FILES)
def test_a_trace_with_wrong_bytes(file: str, copy: Callable[[str], Path]) -> None:
    chance = random.Random(file)
    for at in _places(copy(file) / file, FLIPS_PER_FILE.get(file, MOST_FLIPS)):
        trace = copy(file)
        with (trace / file).open("r+b") as spool:
            spool.seek(at)
            spool.write(chance.choice([b"\0", b"\xff", b"\0" * 8, b"\xff" * 8, chance.randbytes(16)]))
        _run("show", trace, "--json")
        _run("show", trace, "--format", "svg")
        _run("recover", trace)


@pytest.mark.parametrize("file", FILES)
def test_a_trace_without_one_of_its_files(file: str, copy: Callable[[str], Path]) -> None:
    trace = copy(file)
    (trace / file).unlink()
    shown = _run("show", trace)
    assert bool(shown) == (file not in (META, "lifecycle.spool"))
    _run("recover", trace)
    assert (trace / META).exists()


@pytest.mark.parametrize("file", FILES)
def test_a_trace_with_a_folder_for_a_file(file: str, copy: Callable[[str], Path]) -> None:
    trace = copy(file)
    (trace / file).unlink()
    (trace / file).mkdir()
    assert _run("show", trace) == ""
    _run("recover", trace)


def test_events_of_random_bytes(copy: Callable[[str], Path]) -> None:
    chance = random.Random(1)
    for _ in range(20):
        trace = copy("events.spool")
        (trace / "events.spool").write_bytes(chance.randbytes(FRAMED_EVENT.itemsize * 50))
        _run("show", trace, "--json")


def test_recovering_keeps_what_is_whole(copy: Callable[[str], Path]) -> None:
    trace = copy("events.spool")
    spool = trace / "events.spool"
    whole = spool.read_bytes()
    spool.write_bytes(whole[:-1])
    _run("recover", trace)
    assert spool.read_bytes() == whole[: -FRAMED_EVENT.itemsize]
