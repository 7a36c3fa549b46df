"""What ``follow``, ``show`` and ``demo`` share: the options of a view, and printing one."""

from __future__ import annotations

import argparse
import os
import pwd
import sys

from clew.errors import RuleError
from clew.flow.follow import Target
from clew.kernel.syscalls import numbers
from clew.model.flow import Flow
from clew.model.rules import RuleKind, Vocabulary, parse_target
from clew.stack.telling import telling
from clew.view.formats import FORMATS, render
from clew.view.options import Options, stream_ascii, stream_color, stream_width


def add_options(parser: argparse.ArgumentParser) -> None:
    """--until, --format, --json, --whole, -v."""
    parser.add_argument("--until", metavar="RULE", help="show the path to what this names: exec:GLOB")
    parser.add_argument("--format", choices=tuple(FORMATS), default="text", help="how to show it")
    parser.add_argument("--json", action="store_const", dest="format", const="json", help="--format json")
    parser.add_argument("--whole", action="store_true", help="all of the flow, not only the path")
    parser.add_argument("-v", "--verbose", action="store_true", help="all frames and arguments")


def target(text: str | None) -> Target | None:
    """What ``--until text`` names.  Raises RuleError."""
    if text is None:
        return None
    rule = parse_target(text, Vocabulary(tuple(numbers()), _uid))
    if rule.kind is not RuleKind.EXEC:
        raise RuleError(text, 0, "A path leads to a program that is started.", "Write exec:NAME, or a glob.")
    return Target(text, rule)


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def wants_all(args: argparse.Namespace) -> bool:
    """Whether more than the path is shown: text shows the path alone unless told otherwise."""
    return bool(args.whole or args.format != "text")


def show(flow: Flow, args: argparse.Namespace, trace: str) -> None:
    """Print ``flow`` as the options say; text that is not asked for as data goes where a person reads it."""
    stream = sys.stdout
    options = Options(
        pick=telling,
        whole=args.whole,
        verbose=args.verbose,
        quiet=args.quiet,
        trace=trace,
        width=stream_width(stream),
        color=stream_color(stream, os.environ),
        ascii=args.format == "text" and stream_ascii(stream),
    )
    stream.write(render(flow, args.format, options))
