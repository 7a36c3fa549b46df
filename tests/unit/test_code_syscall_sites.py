"""The places before system calls, in the C library, are those that objdump shows."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from clew.code.elf import EM_X86_64, ElfFile
from clew.code.syscall_sites import syscall_sites
from clew.hold.files import installed_libraries
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


@pytest.mark.parametrize("name", ["unlink", "openat", "read", "write", "connect", "getpid", "execve", "kill"])
def test_the_site_is_the_instruction_before_the_call(
    libc: Path, disassembly: dict[int, str], name: str
) -> None:
    addresses = sorted(disassembly)
    with ElfFile.open(libc) as elf:
        sites = {site for site, any_call in syscall_sites(elf, {numbers()[name]}).items() if not any_call}
    assert sites
    for site in sites:
        after = addresses[addresses.index(site) + 1]
        assert disassembly[after].strip() == "syscall"
