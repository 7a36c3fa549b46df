"""``clew``: picks the command's module, runs it, and turns errors into one paragraph and an exit status.

Modules are imported only for the command that is run, so that ``clew --help`` stays quick.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module

from clew import __version__
from clew.errors import ClewError, EngineError, RuleError

TYPE_CHECKING = False  # as typing's, which takes as long to import as all of ours
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

COMMANDS = {
    "follow": "run a command and show what it caused, hop by hop",
    "record": "the same, without showing it",
    "show": "show a recording: text, json, svg, mermaid, dot",
    "export": "a recording as Parquet tables",
    "recover": "finish a recording whose recorder was killed",
    "hold": "stop tasks where a rule says, before they do anything",
    "ps": "the held tasks",
    "gdb": "open gdb on a held task, or on a recorded hop",
    "core": "a core file of one end of a recorded hop",
    "lldb": "open lldb on a held task",
    "bt": "the backtrace of a held task",
    "handover": "leave a held task plainly stopped, for any other tool",
    "release": "let held tasks go",
    "gdb-plugin": "print the line that adds clew to gdb",
    "waits": "who waits for whom now, and who is deadlocked",
    "rules": "say what rules mean",
    "doctor": "what this machine permits, and how to mend what it does not",
    "demo": "follow a request through the example system, or through libvirt",
}

_EPILOG = """examples:
  clew follow -- virsh start vm                        the path, hop by hop
  clew follow -o T --until 'exec:*qemu*' -- virsh start vm
  clew show T --format svg > start.svg                 the chart
  clew hold 'exec:qemu-system-*'                       stop it before it does anything
  clew doctor                                          what this machine permits

`clew COMMAND --help` says more.  Documentation: docs/tutorial.md
"""


def _parser(command: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clew",
        description="Follow one request through every process, and hold any of them in your debugger.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"clew {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, summary in COMMANDS.items():
        if name == command:
            import_module(f"clew.cli.{name.replace('-', '_')}").add_parser(commands)
            made = commands.choices[name]
            made.description = _plain(made.description or "", name)
        else:
            commands.add_parser(name, help=summary, add_help=False)
    return parser


def _plain(description: str, name: str) -> str:
    """A docstring as a person reads it: without the command's name before it, and without markup."""
    said = description.removeprefix(f"``clew {name}``: ").replace("``", "`")
    return said[:1].upper() + said[1:]


def _wanted(arguments: list[str]) -> str | None:
    """The command named on the command line; UsageError if there is no such command."""
    for argument in arguments:
        if argument in COMMANDS:
            return argument
        if argument.startswith("-"):
            continue
        from difflib import get_close_matches

        near = get_close_matches(argument, COMMANDS, 1)
        guess = f"Did you mean `clew {near[0]}`?" if near else "`clew --help` lists them."
        raise ClewError(f"There is no command {argument!r}.", guess)
    return None


def main(arguments: list[str]) -> int:
    """Run one command line; its exit status.  Errors propagate."""
    command = _wanted(arguments)
    parser = _parser(command)
    if command is None and not any(a in ("-h", "--help", "--version") for a in arguments):
        if arguments:
            raise ClewError(
                f"clew has no option {arguments[0]!r} before a command.", "`clew --help` lists them."
            )
        parser.print_help(sys.stderr)
        return 125
    try:
        args = parser.parse_args(arguments)
    except SystemExit as end:
        # argparse exits with 2 for a command line it cannot read; the traced command might do so too.
        if end.code == 2:
            raise SystemExit(125) from None
        raise
    try:
        status: int = args.run(args)
    except EngineError as error:
        _say_log(error, getattr(args, "verbose", False))
        raise
    return status


def _say_log(error: EngineError, verbose: bool) -> None:
    """With -v, what the kernel's verifier said before it refused."""
    if verbose and error.log:
        from clew.view.log import last_words

        print("\n".join(last_words(error.log)), file=sys.stderr)


def run() -> NoReturn:
    """The entry point."""
    _open_standard_files()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    status = answer_for(lambda: main(sys.argv[1:]))
    if status < 0:
        _die_by(-status)
    sys.exit(status if status >= 0 else 128 - status)


def answer_for(act: Callable[[], int]) -> int:
    """What ``act`` returns; of what it raises the exit status, once it was said."""
    try:
        status = act()
        sys.stdout.flush()
        return status
    except ClewError as error:
        _say(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read us (head, less) has had enough; what Python still holds for stdout has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except OSError as error:
        # What none of our own errors tells of: a full disk behind stdout, as a rule.
        _say(ClewError(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}."))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ClewError.exit_code


def _open_standard_files() -> None:
    """Give what was closed (``>&-``) to /dev/null: the next file opened must not become our stdout."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != fd:
                os.dup2(opened, fd)
                os.close(opened)
            os.set_inheritable(fd, True)
            setattr(sys, name, os.fdopen(fd, "w" if fd else "r", closefd=False))


def _say(error: ClewError) -> None:
    from clew.view.escape import visible

    lines = [f"clew: {error.cause}"]
    if isinstance(error, RuleError):
        from clew.model.rules import caret

        lines += [f"  {line}" for line in caret(error).splitlines()]
    if error.remedy:
        lines.append(f"      {error.remedy}")
    print("\n".join(visible(line) for line in lines), file=sys.stderr)


def _die_by(number: int) -> None:
    """End as the traced command ended: by the same signal, leaving no core of our own."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # SIGKILL has no disposition to set, nor have the two that glibc keeps for itself.
    with suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    with suppress(OSError, ValueError):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
