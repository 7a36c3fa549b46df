"""What a request asks for. Parsed in a worker thread, where a hostile request harms nobody else.

libvirt: the generated ``remoteDispatchDomain…Helper`` functions, which decode a call's arguments.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from minivirt.errors import Refused

# Safe as a file name and inside QEMU's comma-separated -name option.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MAX_MEMORY_MIB = 65536


@dataclass(frozen=True, slots=True)
class Define:
    name: str
    memory_mib: int


@dataclass(frozen=True, slots=True)
class Start:
    name: str


@dataclass(frozen=True, slots=True)
class Destroy:
    name: str


@dataclass(frozen=True, slots=True)
class List:
    """``all``: also guests that are defined and do not run."""

    all: bool


Command = Define | Start | Destroy | List


def parse(request: bytes) -> Command:
    """The command in a request such as ``{"command": "start", "name": "tiny"}``. Raises ``Refused``."""
    fields = _object(request)
    match fields.get("command"):
        case "define":
            return Define(_name(fields), _memory(fields))
        case "start":
            return Start(_name(fields))
        case "destroy":
            return Destroy(_name(fields))
        case "list":
            return List(fields.get("all") is True)
        case other:
            raise Refused(f"unknown command {ascii(other)[:80]}: try define, start, list or destroy")


def _object(request: bytes) -> dict[str, object]:
    try:
        fields = json.loads(request)
    except (ValueError, RecursionError):
        raise Refused("the request is not JSON") from None
    if not isinstance(fields, dict):
        raise Refused("the request is not a JSON object")
    return fields


def _name(fields: dict[str, object]) -> str:
    name = fields.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Refused(
            f"{ascii(name)[:80]} cannot name a guest: up to 63 letters, digits, '.', '_' or '-',"
            " a letter or a digit first"
        )
    return name


def _memory(fields: dict[str, object]) -> int:
    memory = fields.get("memory_mib")
    if type(memory) is not int or not 1 <= memory <= _MAX_MEMORY_MIB:
        raise Refused(f"memory must be a whole number of MiB from 1 to {_MAX_MEMORY_MIB}")
    return memory
