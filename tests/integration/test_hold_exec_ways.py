"""Every way to execute a program: held at its entry, before its first instruction, whoever executes it.

The program's first instruction is a store, so that a stop that came too late is seen in its memory.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import clew
from clew.code.elf import ElfFile
from clew.kernel.procfs import mappings
from tests.support.programs import SOURCES

pytestmark = pytest.mark.requires("root", "bpf", "compiler")

LEAF = r"""
__asm__(".globl _start\n_start:\n movl $1, ran(%rip)\n movl $5, %edi\n movl $60, %eax\n syscall\n"
        ".data\n.globl ran\n.balign 4\nran: .long 0\n");
"""
FLAGS = {"static": ["-static"], "pie": ["-static-pie"]}

WAYS = ("execve", "execveat", "execveat-empty", "fexecve", "vfork", "posix_spawn", "thread", "daemon")
KINDS = (*FLAGS, "script")


def can(way: str, kind: str) -> bool:
    """The kernel gives an interpreter the script by a descriptor that the exec has closed (execveat(2))."""
    return kind != "script" or way not in ("execveat-empty", "fexecve")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """exec_ways, the program it runs, and a script that the program interprets."""
    made = tmp_path_factory.mktemp("ways")
    ways = SOURCES / "hold" / "exec_ways.c"
    subprocess.run(["cc", "-D_GNU_SOURCE", "-O1", "-pthread", ways, "-o", made / "ways"], check=True)
    (made / "leaf.c").write_text(LEAF)
    for name, flags in FLAGS.items():
        subprocess.run(["cc", "-nostdlib", *flags, made / "leaf.c", "-o", leaf(made, name)], check=True)
    script = made / f"clew-test-script{os.getpid()}"
    script.write_text(f"#!{leaf(made)}\n")
    script.chmod(0o755)
    return made


def leaf(folder: Path, kind: str = "static") -> Path:
    return folder / f"clew-test-{kind}{os.getpid()}"


@pytest.fixture(scope="module")
def holds(folder: Path) -> Iterator[clew.Holding]:
    with clew.holding(f"exec:clew-test-*{os.getpid()}", control=False) as session:
        yield session


def has_run(task: clew.HeldTask, program: Path) -> bool:
    """Whether the program's first instruction has."""
    with ElfFile.open(program) as elf:
        at = elf.symtab.named(b"ran")[0].value
        first = next(one for one in mappings(task.pid) if one.path == os.fsencode(program))
        bias = elf.bias(first.start, first.file_offset)
        assert bias is not None
        with Path(f"/proc/{task.pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(at + bias)
            return bool(struct.unpack("<i", memory.read(4))[0])


@pytest.mark.parametrize(("way", "kind"), [(way, kind) for way in WAYS for kind in KINDS if can(way, kind)])
def test_each_way_is_held_before_the_first_instruction(
    folder: Path, holds: clew.Holding, way: str, kind: str
) -> None:
    process = subprocess.Popen([folder / "ways", way, leaf(folder, kind)])
    held = holds.wait(timeout=10)
    program = leaf(folder) if kind == "script" else leaf(folder, kind)
    assert (held.hold.exe, held.hold.exact) == (os.fsencode(program), "entry")
    assert held.hold.at.function == "_start"
    assert not has_run(held, program)
    held.release()
    assert process.wait(10) == 5
