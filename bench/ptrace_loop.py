"""Python or C for the ptrace loop: what each adds to one recorded call.

The Python loop does the least that a recording must: two stops, the call's numbers, what the descriptor is, a
copy of the stack and a hash of it, one record.  The other is clew-tracer, which does all there is to do.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from bench.record_pairs import Way, build, clew, interleave, ratios, spread, title, told
from clew.errors import ClewError
from clew.kernel import ptrace
from clew.kernel.ptrace import Event, Option, SyscallStop

ROUNDS = 9
_STACK = 512
_RECORD = struct.Struct("<QQIIBBHiQQQIHH")


def main() -> None:
    """Print both, and how they compare."""
    title("one recorded call by a loop in Python, and by clew-tracer")
    with tempfile.TemporaryDirectory(prefix="clew-bench-") as name:
        folder = Path(name)
        program = build("selfpipe", folder)
        ways = [
            Way("bare", (), 5000),
            Way("python", (sys.executable, "-m", "bench.ptrace_loop", "--loop"), 5000),
            Way("C", (*clew(), "record", "-q", "--engine", "ptrace", "-o", "trace", "--"), 5000),
        ]
        os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
        table = interleave(ways, [program], folder, ROUNDS)
        told(table, "wall")
        print(f"  python adds, over what C adds: {spread(ratios(table, 'python', 'C', 'wall'))}")


def loop(command: list[str]) -> None:
    """Run ``command`` under a loop in Python."""
    gate, opener = os.pipe()
    root = os.fork()
    if root == 0:
        os.close(opener)
        os.read(gate, 1)
        os.execvp(command[0], command)
    ptrace.seize(root, Option.TRACESYSGOOD | Option.TRACEEXEC)
    os.write(opener, b"x")
    out = bytearray()
    while (told_ := ptrace.wait()) and told_.stopped:
        with suppress(ClewError):
            if told_.signal == ptrace.SYSCALL_STOP:
                _on_call(root, out)
            ptrace.syscall(root, 0 if told_.event != Event.NONE or told_.signal & 0x80 else told_.signal)


def _on_call(tid: int, out: bytearray) -> None:
    info = ptrace.syscall_info(tid)
    if info.stop == SyscallStop.ENTRY and info.number in (0, 1):
        end = os.stat(f"/proc/{tid}/fd/{info.args[0]}")  # noqa: PTH116
        stack = hash(ptrace.read_memory(tid, info.sp, _STACK))
        out += _RECORD.pack(
            0, 0, tid, tid, 1, 1, info.number, 0, info.sp, end.st_ino, end.st_ino, stack & 0xFFFFFFFF, 0, 0
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--loop"]:
        loop(sys.argv[2:])
    else:
        main()
