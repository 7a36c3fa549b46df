"""``clew show``: show a recording, with no privileges and no engine."""

from __future__ import annotations

import argparse
from contextlib import suppress

from clew.cli import view_options
from clew.errors import RuleError, UsageError

_EPILOG = """examples:
  clew show T
  clew show T --until 'exec:*qemu-system-x86_64' --format svg > start.svg
  clew show T --json | jq '.reached'
  clew show T --requests /run/x.sock                  what that server was asked, and how far each reached
  clew show T --from 'connect:/run/x.sock,n=3'        what the third connection to that socket caused
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``show`` to the command line."""
    parser = subparsers.add_parser(
        "show",
        help="show a recording",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trace", metavar="TRACE", help="what -o named")
    parser.add_argument("-q", "--quiet", action="store_true", help="the path and nothing else")
    parser.add_argument(
        "--from",
        dest="origin",
        metavar="ORIGIN",
        help="another root than the recording's: exec:GLOB, pid:PID, connect:SOCKET,n=N, request:SOCKET,n=N",
    )
    parser.add_argument(
        "--requests", metavar="SOCKET|PID", help="list the requests that this server got (text, or --json)"
    )
    view_options.add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Follow the trace and show the flow."""
    from pathlib import Path

    from clew.cli import showing
    from clew.cli.apart import apart
    from clew.flow.follow import follow
    from clew.trace.reader import Trace

    if args.requests is not None:
        return _list_requests(args)
    until, origin = showing.target(args.until), showing.origin(args.origin)
    trace = Trace(Path(args.trace))
    if until is None and origin is None:
        # The rule it was recorded with may be of another version, or made up.
        with suppress(RuleError):
            until = showing.target(trace.meta.get("until"))

    def show() -> None:
        flow = follow(trace, until, whole=showing.wants_all(args), strict=args.strict, origin=origin)
        showing.show(flow, args, args.trace)

    apart(show, showing.modules(args.format))
    return 0


def _list_requests(args: argparse.Namespace) -> int:
    from pathlib import Path

    from clew.cli import showing
    from clew.cli.apart import apart
    from clew.flow.requested import requests_of
    from clew.model.rules import parse_served
    from clew.trace.reader import Trace

    if args.origin is not None or args.until is not None or args.format not in ("text", "json"):
        raise UsageError(
            "--requests lists requests: as text or --json, without --from and --until.",
            "Each line of the list has the --from that shows that request.",
        )
    server, trace = parse_served(args.requests), Trace(Path(args.trace))
    module = "clew.view.requests_json" if args.format == "json" else "clew.view.requests_text"

    def show() -> None:
        showing.show_requests(requests_of(trace, server, args.strict), args)

    apart(show, (module,))
    return 0
