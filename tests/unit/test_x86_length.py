"""The length decoder walks every exported function of the C library as objdump does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from clew.code.elf import EM_X86_64, ElfFile
from clew.code.x86_length import length
from clew.hold.files import installed_libraries
from clew.hold.syscall_sites import _in_elf
from clew.kernel.syscalls import numbers

pytestmark = pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not installed")


@pytest.fixture(scope="module")
def libc() -> Path:
    found = installed_libraries().get(b"libc.so.6")
    if found is None or ElfFile.open(found).machine != EM_X86_64:
        pytest.skip("no x86-64 C library of glibc here")
    return found


@pytest.fixture(scope="module")
def disassembly(libc: Path) -> dict[int, str]:
    told = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", libc], capture_output=True, text=True, check=True
    ).stdout
    return {int(m[1], 16): m[2] for m in re.finditer(r"^\s*([0-9a-f]+):\s+(.*)$", told, re.MULTILINE)}


def test_no_instruction_begins_elsewhere(libc: Path, disassembly: dict[int, str]) -> None:
    walked = given_up = 0
    with ElfFile.open(libc) as elf:
        for symbol in elf.dynsym.functions():
            code, at = elf.code_at(symbol.value, symbol.size), 0
            while at < len(code):
                assert symbol.value + at in disassembly, f"{symbol.name!r}+{at:#x}"
                size = length(code, at)
                if not size:
                    given_up += 1
                    break
                walked += 1
                at += size
    assert walked > 50_000
    assert given_up < 200


@pytest.mark.parametrize("name", ["unlink", "openat", "read", "write", "connect", "getpid", "execve", "kill"])
def test_the_site_is_the_instruction_before_the_call(
    libc: Path, disassembly: dict[int, str], name: str
) -> None:
    addresses = sorted(disassembly)
    with ElfFile.open(libc) as elf:
        sites = {site for site, any_call in _in_elf(elf, {numbers()[name]}) if not any_call}
    assert sites
    for site in sites:
        after = addresses[addresses.index(site) + 1]
        assert disassembly[after].strip() == "syscall"
