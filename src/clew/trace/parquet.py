"""A trace as Parquet tables, for DuckDB, Polars, Spark: what clew itself has no question for.

events.parquet    one row an event, names instead of numbers; times in ns of the trace's clock
tasks.parquet     one row a life of a task: ids, names, parent, born, died
images.parquet    one row an image of a process: program, arguments, directory, ids, since when
mappings.parquet  files mapped executable
frames.parquet    backtraces that were named: stack id, depth (0 innermost), function, module, place
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from clew.errors import ClewError, TraceError
from clew.kernel.syscalls import names
from clew.model.event import ChannelType, EventKind
from clew.model.frame import Backtrace
from clew.trace.folder import open_own
from clew.trace.reader import Trace
from clew.trace.tasks import TaskTable

Table = dict[str, NDArray[Any]]
_TABLES = ("events", "tasks", "images", "mappings", "frames")


@contextmanager
def opened(folder: Path) -> Iterator[Mapping[str, BinaryIO]]:
    """The files of the tables in ``folder`` (made if need be), open for ``export``, by a table's name.

    Raises ClewError if DuckDB is not installed, TraceError if the folder cannot be written.
    """
    try:
        import duckdb  # noqa: F401 (whoever writes the tables may have lost the right to import it)
    except ImportError as error:
        raise ClewError(
            "Parquet is written with DuckDB, which is not installed.", "pip install 'clew[export]'"
        ) from error
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            beneath = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, beneath)
            files = {name: stack.enter_context(_emptied(beneath, f"{name}.parquet")) for name in _TABLES}
        except OSError as error:
            raise TraceError(f"Cannot write {folder}: {error.strerror}.", "Name another folder.") from error
        yield files


def _emptied(folder: int, name: str) -> BinaryIO:
    """A file of ours with nothing in it; what others put there under its name is not written to.  OSError."""
    try:
        fd = open_own(folder, name)
    except FileNotFoundError:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
    os.ftruncate(fd, 0)
    return os.fdopen(fd, "r+b")


def export(
    trace: Trace, files: Mapping[str, BinaryIO], backtraces: Mapping[int, Backtrace]
) -> dict[str, int]:
    """Write the tables into what ``opened`` gave; rows of each.  TraceError if they cannot be written."""
    import duckdb

    tasks = TaskTable(trace)
    tables = {
        "events": _events(trace),
        "tasks": _tasks(tasks),
        "images": _images(tasks),
        "mappings": _mappings(trace),
        "frames": _frames(backtraces),
    }
    try:
        # DuckDB wants a name to write to; what may not open the files has none for them.
        with tempfile.TemporaryDirectory(prefix="clew-") as scratch:
            for name, table in tables.items():
                made = Path(scratch) / name
                with duckdb.connect() as database:
                    database.register("data", table)
                    target = str(made).replace("'", "''")
                    database.execute(
                        f"COPY (SELECT * FROM data) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
                    )
                with made.open("rb") as written:
                    shutil.copyfileobj(written, files[name])
                files[name].flush()
                made.unlink()
    except (OSError, duckdb.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise TraceError(f"Cannot write the tables: {why}.", "Make room, there and in $TMPDIR.") from error
    return {name: len(next(iter(table.values()))) for name, table in tables.items()}


def _named(numbers: NDArray[Any], known: dict[int, str]) -> NDArray[Any]:
    """Numbers turned into names, one look-up for each that occurs."""
    values, inverse = np.unique(numbers, return_inverse=True)
    return np.array([known.get(int(value), str(int(value))) for value in values], object)[inverse]


def _events(trace: Trace) -> Table:
    events = trace.events
    kinds = {int(kind): kind.name.lower() for kind in EventKind}
    calls = dict(names())
    signal = np.isin(events["kind"], [EventKind.SIGNAL, EventKind.SIGNALLED])
    call = _named(events["nr"], calls)
    call[signal] = None
    table: Table = {
        "kind": _named(events["kind"], kinds),
        "channel": _named(events["channel"], {int(c): c.label for c in ChannelType}),
        "syscall": call,
        "signal": np.where(signal, events["nr"], 0),
    }
    for name in ("t0", "t", "tid", "pid", "ret", "sp", "chan", "peer", "stack", "flags", "count"):
        table[name] = np.ascontiguousarray(events[name])
    return table


def _rows(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table from rows; text and bytes as objects, so that nothing is cut to a width."""
    listed = list(rows)
    made = {}
    for i, name in enumerate(columns):
        values = [row[i] for row in listed]
        plain = all(isinstance(value, int | bool) for value in values)
        made[name] = np.array(values, np.int64 if plain else object)
    return made


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _tasks(tasks: TaskTable) -> Table:
    columns = ("pid", "tid", "start_ns", "comm", "parent_tid", "is_thread", "born", "died", "exit_code")
    return _rows(
        columns,
        (
            (s.id.pid, s.id.tid, s.id.start_ns, _text(s.names[-1][1]), s.parent_tid, int(s.is_thread), s.born,
             s.died, s.exit_code)
            for s in tasks.all()
        ),
    )  # fmt: skip


def _images(tasks: TaskTable) -> Table:
    columns = ("pid", "since", "exe", "filename", "argv", "argv_truncated", "cwd", "uid", "gid")
    return _rows(
        columns,
        (
            (s.id.pid, since, _text(i.image.exe), _text(i.filename), " ".join(map(_text, i.image.argv)),
             int(i.image.argv_truncated), _text(i.image.cwd), i.image.uid, i.image.gid)
            for s in tasks.all()
            if not s.is_thread
            for since, i in s.images
        ),
    )  # fmt: skip


def _mappings(trace: Trace) -> Table:
    columns = ("pid", "since", "start", "end", "file_offset", "path", "build_id")
    return _rows(
        columns,
        (
            (pid, m.since_ns, m.start, m.end, m.file_offset, _text(m.path), m.build_id.hex())
            for pid, mappings in trace.mappings.items()
            for m in mappings
        ),
    )


def _frames(backtraces: Mapping[int, Backtrace]) -> Table:
    columns = ("stack", "depth", "function", "module", "offset", "file", "line", "inlined")
    return _rows(
        columns,
        (
            (stack, depth, f.function, _text(f.module), f.offset, f.file, f.line, int(f.inlined))
            for stack, backtrace in backtraces.items()
            for depth, f in enumerate(backtrace)
        ),
    )
