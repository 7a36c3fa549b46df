"""What ``follow`` and ``show`` share: reading ``--until``, and printing a view."""

from __future__ import annotations

import argparse
import os
import pwd
import sys

from clew.cli.source_lines import source_lines
from clew.errors import RuleError
from clew.flow.follow import Target
from clew.kernel.syscalls import numbers
from clew.model.flow import Flow
from clew.model.requests import Requests
from clew.model.rules import Origin, RuleKind, Vocabulary, parse_origin, parse_target
from clew.stack.telling import telling
from clew.view.formats import FORMATS, render
from clew.view.options import Options, stream_ascii, stream_color, stream_width


def target(text: str | None) -> Target | None:
    """What ``--until text`` names.  Raises RuleError."""
    if text is None:
        return None
    rule = parse_target(text, Vocabulary(tuple(numbers()), _uid))
    if rule.kind is RuleKind.HOP:
        raise RuleError(
            text, 0, "A hop is part of a path already.", "Name what it did: exec:NAME, syscall:NAME."
        )
    return Target(text, rule)


def origin(text: str | None) -> Origin | None:
    """What ``--from text`` names.  Raises RuleError."""
    return None if text is None else parse_origin(text, Vocabulary(tuple(numbers()), _uid))


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def wants_all(args: argparse.Namespace) -> bool:
    """Whether more than the path is shown: text shows the path alone unless told otherwise."""
    return bool(args.whole or args.format != "text")


def modules(format_: str) -> tuple[str, ...]:
    """What showing in this format imports when it gets there."""
    return (f"clew.view.{FORMATS[format_].module}",)


def show_requests(found: Requests, args: argparse.Namespace) -> None:
    """Print what ``--requests`` asked for."""
    if args.format == "json":
        from clew.view.requests_json import requests_json

        sys.stdout.write(requests_json(found))
        return
    from clew.view.requests_text import requests_text

    out = sys.stdout
    out.write(requests_text(found, args.trace, args.quiet, stream_color(out, os.environ), stream_ascii(out)))


def show(flow: Flow, args: argparse.Namespace, trace: str) -> None:
    """Print ``flow`` as the options say; text that is not asked for as data goes where a person reads it."""
    stream = sys.stdout
    options = Options(
        pick=telling,
        source=source_lines,
        whole=args.whole,
        verbose=args.verbose,
        quiet=args.quiet,
        trace=trace,
        width=stream_width(stream),
        color=stream_color(stream, os.environ),
        ascii=args.format == "text" and stream_ascii(stream),
    )
    stream.write(render(flow, args.format, options))
