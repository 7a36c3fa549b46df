"""``clew handover``: leave a held task plainly stopped, so that any tool can attach to it."""

from __future__ import annotations

import argparse
import json

from clew.cli import holding


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``handover`` to the command line."""
    parser = subparsers.add_parser(
        "handover", help="leave a held task plainly stopped, for any other tool", description=__doc__
    )
    parser.add_argument("hold", metavar="HOLD", help="such as H1")
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print process, thread and state.  It is still held: lease and release go on as before."""
    from clew.hold.client import HoldClient
    from clew.kernel import signals

    with HoldClient() as client:
        hold = client.hand_over(args.hold)
    state = signals.state(hold.pid, hold.tid)
    if args.json:
        print(json.dumps(holding.hold_json(hold) | {"state": state}))
    else:
        print(f"{hold.id}  process {hold.pid}, thread {hold.tid}: stopped by SIGSTOP (state {state}).")
        print(f"    Attach what you like; `clew release {hold.id}` lets it run.")
    return 0
