"""``minivirsh``: one command line, one request, one reply.

libvirt: ``cmdStart`` of virsh → ``virDomainCreate`` → ``remoteDomainCreate`` → ``virNetClientSendWithReply``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys

from minivirt import journal, wire
from minivirt.connect import connect
from minivirt.errors import Refused
from minivirt.places import SESSION, SYSTEM, places

Fields = dict[str, object]


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ^C ends it as it ends any program
    options = _options()
    try:
        reply = _ask(options.connect, _request(options))
        if "error" in reply:
            raise Refused(str(reply["error"]))
        _show(options, reply)
    except (Refused, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _ask(kind: str, request: Fields) -> Fields:
    with connect(places(kind)) as connection:
        message = wire.pack(json.dumps(request).encode())
        journal.note("send request", bytes=len(message))
        connection.sendall(message)
        reply = wire.receive(connection.fileno())
        if reply is None:
            raise Refused("the daemon ended before it replied")
        journal.note("receive reply")
        return dict(json.loads(reply))


def _request(options: argparse.Namespace) -> Fields:
    match options.command:
        case "define":
            return {"command": "define", "name": options.name, "memory_mib": options.memory}
        case "list":
            return {"command": "list", "all": options.all}
        case command:
            return {"command": command, "name": options.name}


def _show(options: argparse.Namespace, reply: Fields) -> None:
    match options.command:
        case "define":
            print(f"Guest '{options.name}' defined")
        case "start":
            print(f"Guest '{options.name}' started, pid {reply['pid']}")
        case "destroy":
            print(f"Guest '{options.name}' destroyed, pid {reply['pid']}")
        case "list":
            _show_guests(reply["guests"])


def _show_guests(guests: object) -> None:
    print(f" {'Pid':<8} {'Name':<20} State\n{'-' * 42}")
    for guest in guests if isinstance(guests, list) else []:
        print(f" {guest['pid'] or '-':<8} {guest['name']:<20} {guest['state']}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="minivirsh", description="Talks to minivirtd.")
    _add_connect(parser, SYSTEM if os.geteuid() == 0 else SESSION)
    # SUPPRESS: a command's own default would undo a --connect that stands before the command.
    every = argparse.ArgumentParser(add_help=False)
    _add_connect(every, argparse.SUPPRESS)
    named = argparse.ArgumentParser(add_help=False, parents=[every])
    named.add_argument("name")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    define = commands.add_parser("define", parents=[named], help="make a guest known")
    define.add_argument("--memory", type=int, default=64, metavar="MIB", help="its memory (default: 64)")
    commands.add_parser("start", parents=[named], help="run a guest")
    commands.add_parser("destroy", parents=[named], help="end a running guest")
    listing = commands.add_parser("list", parents=[every], help="show the guests that run")
    listing.add_argument("--all", action="store_true", help="and those that do not")
    return parser.parse_args()


def _add_connect(parser: argparse.ArgumentParser, default: str) -> None:
    about = "which daemon to talk to (default: system for root, session for others)"
    parser.add_argument("-c", "--connect", choices=(SYSTEM, SESSION), default=default, help=about)
