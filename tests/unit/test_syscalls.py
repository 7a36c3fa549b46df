"""The tables of system calls, against this machine's own headers where they are installed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess

import pytest

from clew.errors import UsageError
from clew.kernel.syscalls import name_of, names, number_of, numbers


@pytest.mark.parametrize(
    ("machine", "name", "number"),
    [
        ("x86_64", "read", 0),
        ("x86_64", "execve", 59),
        ("x86_64", "clone3", 435),
        ("x86_64", "rseq", 334),
        ("aarch64", "read", 63),
        ("aarch64", "execve", 221),
        ("aarch64", "clone3", 435),
        ("aarch64", "wait4", 260),
    ],
)
def test_lookups(machine: str, name: str, number: int) -> None:
    assert number_of(name, machine) == number
    assert name_of(number, machine) == name


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_names_are_unique(machine: str) -> None:
    assert len(names(machine)) == len(numbers(machine)) > 300


def test_unknown_numbers_keep_a_name() -> None:
    assert name_of(9999) == "syscall_9999"
    assert number_of("syscall_9999") == 9999
    assert number_of("opnat") is None


def test_a_machine_without_a_table_is_an_error() -> None:
    with pytest.raises(UsageError, match="s390x"):
        names("s390x")


def test_the_headers_of_this_machine_agree() -> None:
    machine = os.uname().machine
    compiler = shutil.which("cc") or shutil.which("clang")
    if machine not in ("x86_64", "aarch64") or platform.system() != "Linux" or not compiler:
        pytest.skip("needs a C compiler on a machine that has a table")
    command = [compiler, "-dM", "-E", "-"]
    source = "#include <asm/unistd.h>\n"
    result = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip("needs the kernel's headers")
    declared = dict(re.findall(r"#define __NR_(\w+) (\d+)\n", result.stdout))
    assert len(declared) > 300
    ours = numbers(machine)
    assert {name: ours.get(name) for name in declared} == {name: int(n) for name, n in declared.items()}
