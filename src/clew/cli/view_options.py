"""The options of ``follow`` and ``show`` that say what of a flow is shown, and how."""

from __future__ import annotations

import argparse

from clew.view.formats import FORMATS


def add_options(parser: argparse.ArgumentParser) -> None:
    """--until, --format, --json, --whole, --strict, -v."""
    parser.add_argument(
        "--until",
        metavar="RULE",
        help="show the path to what this names: exec:GLOB, exit:GLOB, signal:NAME, … (docs/rules.md)",
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="text", help="how to show it")
    parser.add_argument("--json", action="store_const", dest="format", const="json", help="--format json")
    parser.add_argument("--whole", action="store_true", help="all of the flow, not only the path")
    parser.add_argument(
        "--strict", action="store_true", help="leave out what may as well have been done for other work"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="all frames and arguments")
