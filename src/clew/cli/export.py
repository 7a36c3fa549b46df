"""``clew export``: a recording as Parquet tables, for DuckDB, Polars or Spark."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from clew.view.escape import shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from clew.trace.reader import Trace

_MODULES = ("clew.flow.backtraces", "clew.trace.parquet", "clew.trace.tasks")
_EPILOG = """example:
  clew export T tables
  duckdb -c "SELECT kind, count(*) FROM 'tables/events.parquet' GROUP BY kind"
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``export`` to the command line."""
    parser = subparsers.add_parser(
        "export",
        help="a recording as Parquet tables",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trace", metavar="TRACE", help="what -o named")
    parser.add_argument("folder", metavar="FOLDER", help="where the tables go")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the tables and say how many rows each has."""
    from clew.cli.apart import apart
    from clew.trace.parquet import opened
    from clew.trace.reader import Trace

    trace = Trace(Path(args.trace))
    with opened(Path(args.folder)) as files:
        apart(lambda: _write(trace, files, args.folder), _MODULES)
    return 0


def _write(trace: Trace, files: Mapping[str, BinaryIO], folder: str) -> None:
    import numpy as np

    from clew.flow.backtraces import Backtraces
    from clew.trace.parquet import export
    from clew.trace.tasks import TaskTable

    backtraces = Backtraces(trace, TaskTable(trace))
    backtraces.prepare(int(stack) for stack in np.unique(trace.events["stack"]))
    for name, rows in export(trace, files, backtraces.known).items():
        print(f"{shell(folder)}/{name}.parquet  {rows:,} rows")
