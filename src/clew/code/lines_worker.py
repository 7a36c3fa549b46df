"""The process behind ``lines``: a list of questions on stdin, one JSON object a line for each on stdout."""

from __future__ import annotations

import json
import os
import resource
import stat
import sys
from typing import Any

import drgn

_CPU_S, _MEMORY = 60, 8 << 30
_BASE, _SPAN = 1 << 56, 1 << 48
Row = tuple[str, str, int]


def main() -> None:
    """Answer until the questions end.  Each file has ``_CPU_S`` seconds of processor time."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Only we may write to stdout: libraries that print get stderr.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for question in json.load(sys.stdin):
        used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
        resource.setrlimit(resource.RLIMIT_CPU, (used + _CPU_S, used + _CPU_S + 1))
        json.dump(_answer(question), out)
        out.write("\n")
        out.flush()


def _answer(question: dict[str, Any]) -> dict[int, list[Row]]:
    try:
        module = _load(question["file"], bytes.fromhex(question["build_id"]))
        bias = module.debug_file_bias
    except Exception:  # drgn raises Exception itself for files that libelf refuses
        return {}
    if bias is None:
        return {}
    found = ((a, _rows(module.prog, (bias + a) % 2**64)) for a in question["addresses"])
    return {address: rows for address, rows in found if rows}


def _load(file: str, build_id: bytes) -> drgn.Module:
    prog = drgn.Program(drgn.host_platform)
    # No debuginfod: naming a frame must not go to the network.
    prog.set_enabled_debug_info_finders(["standard"])
    module = prog.extra_module(file, create=True)
    module.address_range = (_BASE, _BASE + _SPAN)
    if build_id:
        module.build_id = build_id
    module.try_file(file, fd=_open_regular(file), force=not build_id)
    if module.debug_file_status == drgn.ModuleFileStatus.WANT_SUPPLEMENTARY:
        prog.find_standard_debug_info([module])
    return module


def _open_regular(file: str) -> int:
    """A descriptor of it, drgn's to close.  Without waiting, if somebody put a FIFO there."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(file)
    return fd


def _rows(prog: drgn.Program, address: int) -> list[Row]:
    try:
        locations = prog.source_location(address)
        return [(at.name() or "", at.filename, at.line) for at in locations]
    except Exception:  # corrupt DWARF: as many kinds as there are ways to be corrupt
        return []


if __name__ == "__main__":
    main()
