"""Backtraces of saved stacks against gdb's of the same moment, for each way a program can be built."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from clew.code.elf import ElfFile
from clew.model.frame import Backtrace, Mapping, StackSample
from clew.stack.modules import local_file
from clew.stack.session import Unwinder, UnwindSession
from tests.support.bounded import until
from tests.support.capture import (
    GdbFrame,
    Moment,
    at_exec,
    blocked_in,
    capture,
    gdb_frames,
    mappings_of,
    running,
    sample_of,
    stopped,
)

SOURCES = Path(__file__).resolve().parent.parent / "programs" / "stack"
READ = 0
FLAGS = ("-D_GNU_SOURCE", "-O2", "-fomit-frame-pointer", "-pthread", "-w")
BUILDS: dict[str, tuple[str, ...]] = {
    "pie": (),
    "debug": ("-g",),
    "stripped": ("-s",),
    "no-pie": ("-no-pie",),
    "static": ("-static",),
    "static-pie": ("-static-pie",),
    "static-stripped": ("-static", "-s"),
    "frame-pointer": ("-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
    "compressed-debug": ("-g", "-gz"),
    "dwarf4": ("-gdwarf-4",),
}

pytestmark = pytest.mark.requires("compiler", "ptrace")


def compiled(source: str, folder: Path, flags: Sequence[str] = ()) -> Path:
    compiler = "g++" if source.endswith(".cc") else "gcc"
    program = folder / source.partition(".")[0]
    subprocess.run([compiler, *FLAGS, *flags, SOURCES / source, "-o", program], check=True)
    return program


def waiting(program: Path, *arguments: str, call: int = READ) -> Moment:
    """The program's moment in its wait."""
    with running(program, *arguments) as pid:
        blocked_in(pid, call)
        return capture(pid)


def main_sample(moment: Moment) -> StackSample:
    return moment.samples[min(moment.samples)]


def functions(backtrace: Backtrace) -> list[str]:
    return [frame.function for frame in backtrace]


def in_program(backtrace: Backtrace, program: Path) -> list[str]:
    return [frame.function for frame in backtrace if frame.module == os.fsencode(program)]


def same_as_gdb(ours: Backtrace, theirs: list[GdbFrame], mappings: Sequence[Mapping]) -> None:
    """The same places, frame by frame."""
    real = [frame for frame in ours if not frame.inlined]
    assert [(f.module, f.offset) for f in real] == places(theirs, mappings)


def places(frames: list[GdbFrame], mappings: Sequence[Mapping]) -> list[tuple[bytes, int]]:
    """(module, ELF address) of gdb's frames, callers at their call and not at what they return to."""
    found = []
    # gdb guesses a frame at 0 beyond one that has no call frame information.
    real = [frame for frame in frames if not frame.inlined and frame.pc]
    for index, frame in enumerate(real):
        # After the `syscall` instruction the innermost is put back on it, too.
        address = frame.pc - 1 if index == 0 or not is_signal_frame(real, index) else frame.pc
        mapping = next(m for m in mappings if m.start <= address < m.end)
        found.append((mapping.path, elf_address(mapping, address)))
    return found


def is_signal_frame(frames: list[GdbFrame], index: int) -> bool:
    """Whether the frame was interrupted where it stands: the signal frame, and what the signal came upon."""
    return "<signal handler called>" in (frames[index - 1].function, frames[index].function)


def elf_address(mapping: Mapping, address: int) -> int:
    if mapping.path.startswith(b"["):
        return address - mapping.start
    path = local_file(mapping)
    assert path is not None
    bias = ElfFile.open(path).bias(mapping.start, mapping.file_offset)
    assert bias is not None
    return address - bias


@pytest.mark.requires("gdb")
# gdb gives up at functions that have neither call frame information nor a prologue that it knows.
@pytest.mark.parametrize("build", [name for name in BUILDS if name != "frame-pointer"])
@pytest.mark.parametrize("threads", ["main", "thread"])
def test_finds_the_frames_that_gdb_finds(build: str, threads: str, tmp_path: Path) -> None:
    program = compiled("deep.c", tmp_path, BUILDS[build])
    with running(program, threads) as pid:
        blocked_in(pid, READ)
        with stopped(pid):
            moment = capture(pid)
            expected = gdb_frames(pid, tmp_path)
    unwinder = Unwinder(moment.mappings)
    for tid, sample in moment.samples.items():
        same_as_gdb(unwinder.unwind(sample), expected[tid], moment.mappings)


@pytest.mark.parametrize("build", [name for name in BUILDS if "stripped" not in name])
def test_names_the_functions_of_a_program(build: str, tmp_path: Path) -> None:
    program = compiled("deep.c", tmp_path, BUILDS[build])
    moment = waiting(program, "main")
    backtrace = Unwinder(moment.mappings).unwind(main_sample(moment))
    chain = [frame.function for frame in backtrace if not frame.inlined]
    start = chain.index("innermost")
    assert chain[start : start + 7] == ["innermost", *["hidden"] * 4, "outermost", "main"]
    assert chain[0] in ("read", "__read", "__libc_read")
    assert chain[-1] == "_start"


@pytest.mark.parametrize("build", ["stripped", "static-stripped"])
def test_gives_no_name_where_nothing_names_the_address(build: str, tmp_path: Path) -> None:
    program = compiled("deep.c", tmp_path, BUILDS[build])
    moment = waiting(program, "main")
    backtrace = Unwinder(moment.mappings).unwind(main_sample(moment))
    assert set(in_program(backtrace, program)) == {""}
    assert all(frame.offset for frame in backtrace)


def test_a_library_names_what_it_exports_and_nothing_else(tmp_path: Path) -> None:
    library = tmp_path / "libdeep.so"
    shared = ("-shared", "-fPIC", "-s", "-Dmain=run", "-nostartfiles")
    subprocess.run(["gcc", *FLAGS, *shared, SOURCES / "deep.c", "-o", library], check=True)
    caller = tmp_path / "caller.c"
    caller.write_text("int run(int, char **); int main(int n, char **v) { return run(n, v) + 1; }")
    program = tmp_path / "caller"
    rpath = f"-Wl,-rpath,{tmp_path}"
    subprocess.run(["gcc", *FLAGS, caller, library, rpath, "-o", program], check=True)
    moment = waiting(program)
    backtrace = Unwinder(moment.mappings).unwind(main_sample(moment))
    assert in_program(backtrace, library) == ["innermost", *[""] * 4, "outermost", "run"]


def test_places_frames_and_unfolds_inlined_ones(tmp_path: Path) -> None:
    program = compiled("deep.c", tmp_path, ("-g",))
    moment = waiting(program, "main")
    backtrace = Unwinder(moment.mappings).unwind(main_sample(moment))
    folded = next(frame for frame in backtrace if frame.inlined and frame.module == os.fsencode(program))
    after = backtrace[backtrace.index(folded) + 1]
    assert (folded.function, after.function) == ("take_byte", "innermost")
    lines = (SOURCES / "deep.c").read_text().splitlines()
    assert "waits here" in lines[folded.line - 1]
    assert lines[after.line - 1].strip() == "return take_byte(fd) + 1;"
    assert Path(folded.file).name == "deep.c"
    assert folded.offset == after.offset


def test_without_lines_dwarf_is_not_read(tmp_path: Path) -> None:
    program = compiled("deep.c", tmp_path, ("-g",))
    moment = waiting(program, "main")
    session = UnwindSession(lines=False)
    backtrace = session.unwind(main_sample(moment), moment.mappings)
    assert "innermost" in functions(backtrace)
    assert {(f.file, f.line, f.inlined) for f in backtrace} == {("", 0, False)}


def test_demangles_cplusplus(tmp_path: Path) -> None:
    program = compiled("shapes.cc", tmp_path)
    moment = waiting(program)
    backtrace = Unwinder(moment.mappings).unwind(main_sample(moment))
    assert in_program(backtrace, program) == [
        "shapes::Circle::area",
        "shapes::Circle::scaled<long>",
        "shapes::Circle::operator()",
        "shapes::(anonymous namespace)::unnamed(int)::{lambda(int)#1}::operator()",
        "shapes::(anonymous namespace)::unnamed",
        "main",
        "_start",
    ]


@pytest.mark.requires("gdb")
@pytest.mark.parametrize("build", ["pie", "static", "debug"])
def test_goes_through_a_signal_frame(build: str, tmp_path: Path) -> None:
    program = compiled("handler.c", tmp_path, BUILDS[build])
    with running(program) as pid:
        blocked_in(pid, READ)
        with stopped(pid):
            moment = capture(pid)
            expected = gdb_frames(pid, tmp_path)[pid]
    backtrace = Unwinder(moment.mappings).unwind(main_sample(moment))
    same_as_gdb(backtrace, expected, moment.mappings)
    names = in_program(backtrace, program)
    assert names.index("in_handler") < names.index("on_signal") < names.index("interrupted_work")


def test_unwinds_out_of_the_vdso(tmp_path: Path) -> None:
    program = compiled("clock.c", tmp_path)

    def taken_in_vdso() -> Moment | None:
        moment = capture(pid)
        vdso = next(m for m in moment.mappings if m.path == b"[vdso]")
        address = int.from_bytes(main_sample(moment).registers[128:136], "little")
        return moment if vdso.start <= address < vdso.end else None

    with running(program) as pid:
        moment = until(taken_in_vdso, what="a sample in the vDSO")
        assert moment is not None
    backtrace = Unwinder(moment.mappings).unwind(main_sample(moment))
    assert backtrace[0].module == b"[vdso]"
    assert in_program(backtrace, program)[:2] == ["ask_the_time", "main"]


def test_a_stack_copy_that_is_cut_short_only_ends_the_backtrace(tmp_path: Path) -> None:
    program = compiled("deep.c", tmp_path)
    moment = waiting(program, "main")
    sample = main_sample(moment)
    unwinder = Unwinder(moment.mappings)
    whole = unwinder.unwind(sample)
    lengths = []
    for size in range(0, len(sample.data) + 1, 4):
        short = StackSample(0, sample.pid, 0, sample.sp, sample.registers, sample.data[:size])
        backtrace = unwinder.unwind(short)
        assert backtrace == whole[: len(backtrace)]
        lengths.append(len(backtrace))
    assert lengths[0] == 1
    assert lengths == sorted(lengths)
    assert lengths[-1] == len(whole)


def test_a_replaced_file_gives_no_names(tmp_path: Path) -> None:
    program = compiled("deep.c", tmp_path, ("-Wl,--build-id",))
    moment = waiting(program, "main")
    program.rename(tmp_path / "old")
    compiled("deep.c", tmp_path, ("-Wl,--build-id", "-O1"))
    session = UnwindSession()
    backtrace = session.unwind(main_sample(moment), moment.mappings)
    assert in_program(backtrace, program) == [""]
    assert backtrace[-1].module == os.fsencode(program)
    assert "replaced" in session.problems[os.fsencode(program)]


def test_a_deleted_file_is_found_by_whoever_knows_where_it_went(tmp_path: Path) -> None:
    program = compiled("deep.c", tmp_path, ("-Wl,--build-id",))
    with running(program, "main") as pid:
        blocked_in(pid, READ)
        shutil.copy(program, tmp_path / "kept")
        program.unlink()
        moment = capture(pid)
    path = os.fsencode(program) + b" (deleted)"
    assert path in {m.path for m in moment.mappings}
    lost = UnwindSession()
    assert in_program(lost.unwind(main_sample(moment), moment.mappings), program) == [""]

    def find(mapping: Mapping) -> Path | None:
        return tmp_path / "kept" if mapping.path == path else local_file(mapping)

    found = UnwindSession(find_file=find).unwind(main_sample(moment), moment.mappings)
    assert in_program(found, program)[:2] == ["innermost", "hidden"]


def test_another_mount_namespace_is_reached_through_the_resolver(tmp_path: Path) -> None:
    program = compiled("deep.c", tmp_path)
    moment = waiting(program, "main")
    inside = tuple(
        Mapping(m.start, m.end, m.file_offset, b"/inside" + m.path, m.build_id) for m in moment.mappings
    )

    def find(mapping: Mapping) -> Path | None:
        return Path(os.fsdecode(mapping.path.removeprefix(b"/inside")))

    session = UnwindSession(find_file=find)
    backtrace = session.unwind(main_sample(moment), inside)
    assert "innermost" in functions(backtrace)
    assert {frame.module[:8] for frame in backtrace} == {b"/inside/"}
    assert functions(UnwindSession(debug_roots=()).unwind(main_sample(moment), inside)) == [""]


def test_processes_of_one_program_share_what_was_read(tmp_path: Path) -> None:
    program = compiled("deep.c", tmp_path)
    session = UnwindSession()
    first, second = (waiting(program, "main") for _ in range(2))
    assert first.mappings != second.mappings
    walks = {session.walk(main_sample(moment), moment.mappings) for moment in (first, second)}
    assert len(walks) == 1


def test_sections_headers_are_not_needed_to_unwind(tmp_path: Path) -> None:
    program = compiled("deep.c", tmp_path, ("-Wl,--build-id",))
    image = bytearray(program.read_bytes())
    image[40:48] = bytes(8)  # e_shoff
    image[58:64] = bytes(6)  # e_shentsize, e_shnum, e_shstrndx
    bare = tmp_path / "bare"
    bare.write_bytes(image)
    bare.chmod(0o755)
    moment = waiting(bare, "main")
    backtrace = Unwinder(moment.mappings).unwind(main_sample(moment))
    assert len(in_program(backtrace, bare)) == 8
    assert set(in_program(backtrace, bare)) == {""}


def test_an_image_that_has_run_nothing_stands_at_its_entry(tmp_path: Path) -> None:
    program = compiled("deep.c", tmp_path)
    with at_exec(program) as pid:
        moment = Moment({pid: sample_of(pid, pid)}, mappings_of(pid))
    (frame,) = Unwinder(moment.mappings).unwind(main_sample(moment))
    loader = ElfFile.open(Path(os.fsdecode(frame.module)))
    assert frame.offset == loader.entry
    assert frame.module in {m.path for m in moment.mappings} - {os.fsencode(program)}


def test_a_static_image_that_has_run_nothing_stands_at_its_own_entry(tmp_path: Path) -> None:
    program = compiled("deep.c", tmp_path, ("-static-pie",))
    with at_exec(program) as pid:
        moment = Moment({pid: sample_of(pid, pid)}, mappings_of(pid))
    (frame,) = Unwinder(moment.mappings).unwind(main_sample(moment))
    assert (frame.function, frame.module) == ("_start", os.fsencode(program))
    assert frame.offset == ElfFile.open(program).entry


def test_after_a_thread_execs_the_new_image_is_unwound(tmp_path: Path) -> None:
    target = compiled("deep.c", tmp_path)
    program = compiled("thread_exec.c", tmp_path)
    moment = waiting(program, str(target))
    (sample,) = moment.samples.values()
    assert "outermost" in functions(Unwinder(moment.mappings).unwind(sample))


def test_rust_names_are_rusts(tmp_path: Path) -> None:
    if not shutil.which("rustc"):
        pytest.skip("rustc is not installed")
    program = tmp_path / "waits"
    command = ["rustc", "-O", "-C", "symbol-mangling-version=v0", str(SOURCES / "waits.rs")]
    subprocess.run([*command, "-o", str(program)], check=True)
    moment = waiting(program)
    names = functions(Unwinder(moment.mappings).unwind(main_sample(moment)))
    assert "<waits::inner::Reader<i32> as waits::inner::Waits>::wait_here" in names
    assert "waits::main" in names
