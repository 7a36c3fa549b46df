"""Programs whose files lie about themselves: backtraces may become short, nothing else may happen."""

from __future__ import annotations

import os
import random
import resource
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from clew.code.elf import ElfFile
from clew.model.frame import Mapping, StackSample
from clew.stack import walk
from clew.stack.modules import local_file
from clew.stack.session import UnwindSession
from tests.integration.test_stack_unwind import compiled, functions, main_sample, waiting
from tests.support.capture import Moment

CHAIN = ["innermost", *["hidden"] * 4, "outermost", "main"]

pytestmark = pytest.mark.requires("compiler")


class Victim:
    """A captured program, and a file to put in its place."""

    def __init__(self, folder: Path) -> None:
        self.program = compiled("deep.c", folder, ("-Wl,--build-id",))
        moment = waiting(self.program, "main")
        self.sample = main_sample(moment)
        # Without build ids, so that nothing but its content speaks against the file.
        self.mappings = tuple(replace(m, build_id=b"") for m in moment.mappings)
        self.image = self.program.read_bytes()
        self.stand_in = folder / "stand-in"

    def session(self, image: bytes) -> UnwindSession:
        """A session that finds ``image`` where the program's file was."""
        self.stand_in.write_bytes(image)
        return UnwindSession(find_file=self._find, lines=False)

    def _find(self, mapping: Mapping) -> Path | None:
        return self.stand_in if mapping.path == os.fsencode(self.program) else local_file(mapping)

    def chain(self, image: bytes) -> list[str]:
        session = self.session(image)
        backtrace = session.unwind(self.sample, self.mappings)
        return [frame.function for frame in backtrace if frame.module == os.fsencode(self.program)]


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    return Victim(tmp_path)


def test_the_whole_file_gives_the_whole_chain(victim: Victim) -> None:
    assert victim.chain(victim.image)[:7] == CHAIN


@pytest.mark.parametrize("seed", range(6))
def test_damage_only_shortens_the_chain(victim: Victim, seed: int) -> None:
    chance = random.Random(seed)
    elf = ElfFile.open(victim.program)
    (section_headers,) = struct.unpack_from("<Q", victim.image, 40)
    frames = next(s for s in elf.sections if s.name == b".eh_frame")
    aims = ((0, 64), (64, 56 * 13), (section_headers, 64 * 30), *[(frames.offset, frames.size)] * 4)
    shortened = 0
    for _ in range(60):
        image = bytearray(victim.image)
        for _ in range(chance.choice((1, 2, 8, 40))):
            start, size = chance.choice(aims)
            where = start + chance.randrange(size)
            image[where] = chance.choice((0, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        chain = victim.chain(bytes(image))
        named = [name for name in chain if name]
        assert len(chain) >= 1
        shortened += chain[:7] != CHAIN
        # What was hit decides where it ends; as long as it goes on, it is through the same functions.
        assert set(named) <= {*CHAIN, "_start"} | all_functions(elf)
    assert shortened


def all_functions(elf: ElfFile) -> set[str]:
    return {symbol.name.decode() for symbol in elf.symtab}


def test_a_file_cut_anywhere_is_survived(victim: Victim) -> None:
    for size in [*range(0, 1024, 16), *range(1024, len(victim.image), 512)]:
        chain = victim.chain(victim.image[:size])
        assert chain[0] in ("innermost", "")


def test_a_file_cut_while_it_is_in_use_is_survived(victim: Victim) -> None:
    session = victim.session(victim.image)
    image = session.image(victim.mappings)
    assert len(session.walk(victim.sample, image)) > 7
    os.truncate(victim.stand_in, 100)
    backtrace = session.unwind(victim.sample, image)
    assert os.fsencode(victim.program) in {frame.module for frame in backtrace}
    assert "innermost" not in functions(backtrace)


def test_a_frame_table_without_end_is_survived(victim: Victim) -> None:
    elf = ElfFile.open(victim.program)
    frames = next(s for s in elf.sections if s.name == b".eh_frame")
    image = bytearray(victim.image)
    for where in range(frames.offset, frames.offset + frames.size, 4):
        image[where : where + 4] = b"\xff\xff\xff\xff"
    assert victim.chain(bytes(image)) == ["innermost"]


def test_frame_tables_that_are_too_much_together_are_left_out(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "_MOST_BYTES", 64)
    session = victim.session(victim.image)
    assert "main" not in functions(session.unwind(victim.sample, victim.mappings))
    assert any("too large together" in problem for problem in session.problems.values())


def test_a_stack_that_leads_into_itself_ends(victim: Victim) -> None:
    # Every word is a return address into a function that says its caller is further out.
    session = victim.session(victim.image)
    (symbol,) = ElfFile.open(victim.program).symtab.named(b"hidden")
    code = next(m for m in victim.mappings if m.path == os.fsencode(victim.program))
    elf = ElfFile.open(victim.program)
    bias = elf.bias(code.start, code.file_offset)
    assert bias is not None
    word = struct.pack("<Q", bias + symbol.value + symbol.size - 1)
    looped = StackSample(0, 1, 0, victim.sample.sp, victim.sample.registers, word * 2048)
    spots = session.walk(looped, victim.mappings)
    assert 1 < len(spots) <= 1024


@pytest.mark.parametrize("registers", [b"", b"x" * 167, b"x" * 272])
def test_registers_of_another_size_are_refused(victim: Victim, registers: bytes) -> None:
    sample = replace(victim.sample, registers=registers)
    with pytest.raises(ValueError, match="168"):
        victim.session(victim.image).walk(sample, victim.mappings)


@pytest.mark.parametrize("seed", range(4))
def test_random_registers_and_stacks_are_survived(victim: Victim, seed: int) -> None:
    chance = random.Random(seed)
    session = victim.session(victim.image)
    addresses = [address for m in victim.mappings for address in (m.start, m.end, m.start + 100)]
    for _ in range(200):
        words = [
            chance.choice((chance.choice(addresses), victim.sample.sp + chance.randrange(8192), 0, 2**64 - 1))
            for _ in range(21 + 512)
        ]
        registers, stack = struct.pack("<21Q", *words[:21]), struct.pack("<512Q", *words[21:])
        sp = chance.choice((victim.sample.sp, 0, 1, 2**64 - 4096, 2**47))
        assert len(session.unwind(StackSample(0, 1, 0, sp, registers, stack), victim.mappings)) >= 1


def test_code_in_no_file_is_shown_by_its_address(victim: Victim) -> None:
    registers = bytearray(victim.sample.registers)
    struct.pack_into("<Q", registers, 16 * 8, 0x7F1234567890)
    sample = replace(victim.sample, registers=bytes(registers))
    first = victim.session(victim.image).unwind(sample, victim.mappings)[0]
    assert (first.function, first.module, first.offset) == ("", b"", 0x7F1234567890)


def test_more_modules_than_descriptors(tmp_path: Path) -> None:
    program = compiled("deep.c", tmp_path)
    moments = []
    for number in range(40):
        copy = tmp_path / f"copy{number}"
        shutil.copy(program, copy)
        moments.append(waiting(copy, "main"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 24, limits[1]))
    try:
        session = UnwindSession(lines=False)
        chains = [chain_of(session, moment) for moment in moments]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert chains == [CHAIN] * len(moments)


def chain_of(session: UnwindSession, moment: Moment) -> list[str]:
    names = functions(session.unwind(main_sample(moment), moment.mappings))
    start = names.index("innermost")
    return names[start : start + len(CHAIN)]


def test_mini_debug_info_names_what_was_stripped(tmp_path: Path) -> None:
    program = compiled("deep.c", tmp_path, ("-Wl,--build-id",))
    names, bare = tmp_path / "names", tmp_path / "bare"
    subprocess.run(["objcopy", "--only-keep-debug", program, names], check=True)
    subprocess.run(["xz", names], check=True)
    packed = f".gnu_debugdata={names}.xz"
    subprocess.run(["objcopy", "-S", "--add-section", packed, program, bare], check=True)
    assert len(ElfFile.open(bare).symtab) == 0
    assert chain_of(UnwindSession(), waiting(bare, "main")) == CHAIN


def test_a_separate_debug_file_is_found_by_build_id(tmp_path: Path) -> None:
    program = compiled("deep.c", tmp_path, ("-g", "-Wl,--build-id"))
    build_id = ElfFile.open(program).build_id.hex()
    debug = tmp_path / "root" / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
    debug.parent.mkdir(parents=True)
    subprocess.run(["objcopy", "--only-keep-debug", program, debug], check=True)
    subprocess.run(["strip", program], check=True)
    moment = waiting(program, "main")
    session = UnwindSession(debug_roots=[tmp_path / "root"])
    backtrace = session.unwind(main_sample(moment), moment.mappings)
    assert [f.function for f in backtrace if f.module == os.fsencode(program) and not f.inlined][:7] == CHAIN
    placed = [Path(f.file).name for f in backtrace if f.function == "take_byte" and f.inlined]
    assert placed == ["deep.c"]
