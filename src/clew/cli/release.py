"""``clew release``: let held tasks run on."""

from __future__ import annotations

import argparse

from clew.cli import holding


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``release`` to the command line."""
    parser = subparsers.add_parser(
        "release",
        help="let held tasks go",
        description="Let held tasks run on.  With all, also those that a session left that was killed"
        " together with its guardian.",
    )
    parser.add_argument("holds", nargs="*", metavar="HOLD", help="H1, H2, …, or all")
    parser.add_argument("--all", action="store_true", help="the same as all")
    parser.add_argument("--force", action="store_true", help="also what a debugger has")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Let them go and say so; HoldError for one that is not held."""
    from clew.errors import UsageError
    from clew.hold.client import HoldClient, NoSession
    from clew.hold.leftovers import release_leftovers

    names = ["all"] if args.all or "all" in args.holds else args.holds
    if not names:
        raise UsageError("Which hold?", "Name one (`clew ps` lists them), or all.")
    stood, left = release_leftovers() if names == ["all"] else (0, 0)
    if stood > left:
        print(f"{stood - left} task{'s' * (stood - left != 1)} of a session that was killed: let go")
    if left:
        print(f"{left} of a session that was killed: in a debugger; run this again when it has quit.")
    try:
        with HoldClient() as client:
            for name in names:
                for hold in client.release(name, args.force):
                    print(f"{hold.id}  {holding.task(hold)}  let go")
    except NoSession:
        if names != ["all"]:
            raise
        if not stood:
            print("Nothing is held.")
    return 0
