"""Where rules stop: lines in DWARF of several versions, functions, installed libraries."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from clew.code.elf import ElfFile
from clew.code.line_table import find_line
from clew.errors import SymbolNotFound
from clew.hold.code import Code
from clew.hold.files import CodeFile, installed_libraries, program_files
from clew.hold.functions import find_function
from clew.hold.source_lines import find_source_line
from clew.model.rules import Function, Glob, SourceLine

SOURCE = """\
volatile int sink;
static inline __attribute__((always_inline)) void twice(int n) {
    sink = n * 2;
}
static int hidden(int n) {
    return n + sink;
}
int main(int argc, char **argv) {
    (void)argv;
    twice(argc);
    for (int i = 0; i < argc; i++)
        sink++;

    twice(argc + 1);
    return hidden(argc);
}
"""


def build(folder: Path, *flags: str) -> Path:
    (folder / "place.c").write_text(SOURCE)
    program = folder / "place"
    subprocess.run(["cc", "-O0", *flags, "place.c", "-o", program], cwd=folder, check=True)
    return program


@pytest.mark.parametrize(
    "flags", [("-gdwarf-2",), ("-gdwarf-3",), ("-gdwarf-4",), ("-gdwarf-5",), ("-g", "-gz=zlib")]
)
def test_a_line_is_found_in_each_inlined_copy(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with ElfFile.open(build(tmp_path, *flags)) as elf:
        found = find_line(elf, SourceLine(b"place.c", 3))
        main = elf.symtab.named(b"main")[0]
    assert len(found.addresses) == 2
    assert all(main.value <= address < main.value + main.size for address in found.addresses)


def test_the_addresses_are_those_that_the_debugger_uses(tmp_path: Path) -> None:
    program = build(tmp_path, "-g")
    told = subprocess.run(
        ["objdump", "--dwarf=decodedline", program], capture_output=True, text=True, check=True
    ).stdout
    rows = [row for line in told.splitlines() if len(row := line.split()) >= 3 and row[0] == "place.c"]
    with ElfFile.open(program) as elf:
        for line in (6, 12, 14, 15):
            wanted = [int(row[2], 16) for row in rows if row[1] == str(line)]
            found = find_line(elf, SourceLine(b"place.c", line)).addresses
            assert found
            assert set(found) <= set(wanted)
            assert min(found) == min(wanted)


def test_a_line_without_code_names_its_neighbours(tmp_path: Path) -> None:
    program = build(tmp_path, "-g")
    file = CodeFile(os.fsencode(program), program)
    with pytest.raises(SymbolNotFound, match="12, 14") as raised:
        find_source_line("at:place.c:13", SourceLine(b"place.c", 13), [file], Code())
    assert "at:place.c:14" in raised.value.near


def test_a_damaged_table_yields_nothing_and_no_fault(tmp_path: Path) -> None:
    program = build(tmp_path, "-g")
    with ElfFile.open(program) as elf:
        section = elf.section(b".debug_line")
        assert section is not None
        start, size = section.offset, section.size
    whole = program.read_bytes()
    for at in range(start, start + size, 7):
        broken = tmp_path / "broken"
        broken.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with ElfFile.open(broken) as elf:
            find_line(elf, SourceLine(b"place.c", 3))


def test_static_functions_are_found_until_they_are_stripped(tmp_path: Path) -> None:
    program = build(tmp_path)
    file = CodeFile(os.fsencode(program), program)
    hidden = Function(Glob.parse("hidden"), Glob.parse(str(program)))
    (place,) = find_function("call:hidden", hidden, [file], Code())
    with ElfFile.open(program) as elf:
        assert place.offset == elf.file_offset(elf.symtab.named(b"hidden")[0].value)
    subprocess.run(["strip", program], check=True)
    with pytest.raises(SymbolNotFound, match="stripped"):
        find_function("call:hidden", hidden, [file], Code())


def test_near_names_are_proposed(tmp_path: Path) -> None:
    program = build(tmp_path)
    wanted = Function(Glob.parse("hiden"), Glob.parse(str(program)))
    with pytest.raises(SymbolNotFound) as raised:
        find_function("call:hiden", wanted, [CodeFile(os.fsencode(program), program)], Code())
    assert raised.value.near == ("hidden",)


def test_installed_libraries_are_those_of_the_loader() -> None:
    told = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    wanted = {line.split(" (")[0].strip() for line in told.splitlines()[1:] if "=>" in line}
    assert {os.fsdecode(name) for name in installed_libraries()} == wanted


def test_a_commands_libraries_are_found_before_it_runs() -> None:
    names = {file.name.rpartition(b"/")[2] for file in program_files(b"ls")}
    assert {b"ls", b"libc.so.6"} <= names
