"""A trace as Parquet tables holds what the trace held."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import duckdb
import pytest

from bench.synthetic import CHILD, CLIENT, WORKER, write
from clew.errors import ClewError, TraceError
from clew.model.frame import Frame
from clew.trace.parquet import export, opened
from clew.trace.reader import Trace

EVENTS = 100


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    write(tmp_path / "trace", EVENTS)
    backtraces = {7: (Frame("f'; DROP TABLE x", b"/lib/\xff.so", 16, "f.c", 3), Frame("main", b"/bin/x", 32))}
    with opened(tmp_path / "it's tables") as files:
        export(Trace(tmp_path / "trace"), files, backtraces)
    return tmp_path / "it's tables"


def _all(tables: Path, name: str, query: str) -> list[tuple[object, ...]]:
    file = str(tables / f"{name}.parquet").replace("'", "''")
    found: list[tuple[object, ...]] = duckdb.execute(query.replace("$", f"'{file}'")).fetchall()
    return found


def test_events_keep_kinds_calls_and_numbers(tables: Path) -> None:
    assert _all(tables, "events", "SELECT count(*) FROM $") == [(EVENTS,)]
    sent = _all(
        tables,
        "events",
        f"SELECT DISTINCT channel, syscall, ret FROM $ WHERE kind = 'send' AND tid = {CLIENT}",
    )
    assert sent == [("unix", "write", 56)]


def test_tasks_and_images_can_be_joined(tables: Path) -> None:
    assert _all(tables, "tasks", f"SELECT comm, is_thread FROM $ WHERE tid = {WORKER}") == [("worker", 1)]
    assert _all(
        tables, "images", f"SELECT filename FROM $ WHERE pid = {CHILD} AND since > 0 ORDER BY since DESC"
    )[0] == ("/bin/target",)


def test_frames_keep_hostile_names_as_text(tables: Path) -> None:
    rows = _all(tables, "frames", "SELECT stack, depth, function, module, line FROM $ ORDER BY depth")
    assert rows == [(7, 0, "f'; DROP TABLE x", "/lib/\\xff.so", 3), (7, 1, "main", "/bin/x", 0)]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TraceError, match="Cannot write"), opened(tmp_path / "file"):
        pass


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo"])
def test_what_is_there_under_a_table_s_name_is_not_written_to(kind: str, tmp_path: Path) -> None:
    victim, table = tmp_path / "victim", tmp_path / "tables" / "tasks.parquet"
    victim.write_text("precious")
    table.parent.mkdir()
    if kind == "fifo":
        os.mkfifo(table)
    else:
        (os.symlink if kind == "link" else os.link)(victim, table)
    with pytest.raises(TraceError, match="Cannot write"), opened(tmp_path / "tables"):
        pass
    assert victim.read_text() == "precious"


def test_tables_are_written_again(tables: Path) -> None:
    before = (tables / "tasks.parquet").read_bytes()
    with opened(tables) as files:
        export(Trace(tables.parent / "trace"), files, {})
    assert (tables / "tasks.parquet").read_bytes() == before


def test_without_duckdb_it_is_said_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ClewError, match=re.escape("pip install 'clew[export]'")), opened(tmp_path / "tables"):
        pass
    assert not (tmp_path / "tables").exists()
