"""From registers and a copy of the stack to the places in the code: the first, nameless pass.

drgn does the unwinding, over one Program for all processes: the stack copy is the only memory it sees, and
every return address it reads there is translated to its spot (see ``modules``) on the way.
"""

from __future__ import annotations

import resource
import struct
from typing import Final

import drgn

from clew.code.elf import EM_X86_64, ElfError
from clew.model.frame import StackSample
from clew.stack.cfi import frame_table, write_frame_file
from clew.stack.image import ImageMap
from clew.stack.modules import Module, Modules, elf_address

REGISTERS_SIZE: Final = 168
_IP_AT, _WORD = 16 * 8, 8
# drgn reads the two words of a frame-pointer frame at once, and by CFI one word at a time: so its fallback,
# which it also tries when a stack copy ends too early, can be told apart (test_stack_unwind.py pins both).
_FRAME_POINTER_READ = 16
# drgn keeps a file descriptor for each module.  When it has this share of those we may have, it begins anew.
_DESCRIPTORS_SHARE, _LEAST_LOADED = 4, 16
# Bytes of frame tables that it may have at a time, whatever files say; at half of them it begins anew.
_MOST_BYTES = 512 << 20
_SYSCALL = b"\x0f\x05"
# drgn walks per sample: one, and one more for each module that is new or corrupt on its way.
_MOST_WALKS = 64


class _Stack:
    """The memory drgn sees: one sample's stack, return addresses translated."""

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._sp = self._limit = self.reads = 0
        self._data = self._last = b""
        self._image = ImageMap((), modules)

    def show(self, sample: StackSample, image: ImageMap, limit: int) -> None:
        """Make ``sample`` the memory, of which at most ``limit`` words may be read."""
        self._sp, self._data, self._image = sample.sp, sample.data, image
        self._limit, self.reads, self._last = limit, 0, b""

    def read(self, address: int, count: int, _offset: int, _physical: bool) -> bytes:
        """drgn's callback.  Raises drgn.FaultError for what is not in the copy, and ever after that."""
        at = address - self._sp
        data = self._data[at : at + count] if at >= 0 else b""
        if len(data) != count or self.reads >= self._limit:
            self._limit = 0
            raise drgn.FaultError("not in the stack copy", address)
        self.reads += 1
        self._last = data
        if count == _WORD:
            return self._image.known.get(data) or self._image.translate(data)
        return self._frame(address, data) if count == _FRAME_POINTER_READ else data

    @property
    def last_spot(self) -> int:
        """What was read last, as a return address; 0 if nothing was."""
        return self._image.return_spot(int.from_bytes(self._last[-_WORD:], "little")) if self._last else 0

    def _frame(self, address: int, data: bytes) -> bytes:
        """A saved frame pointer and return address, where no CFI tells: only if they look like it."""
        pointer, word = struct.unpack("<QQ", data)
        spot = self._image.return_spot(word)
        module = self._modules.of_spot(spot)
        plausible = pointer > address if module is None else _ends_in_call(module, spot)
        if address % _WORD or not plausible:
            raise drgn.FaultError("no frame here", address)
        return struct.pack("<QQ", pointer, spot)


class Walker:
    """Unwinds samples of any image to spots.  Loads a module's frame table when a frame first needs it."""

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._stack = _Stack(modules)
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most_loaded = max(_LEAST_LOADED, descriptors // _DESCRIPTORS_SHARE)
        self._begin()

    def _begin(self) -> None:
        self._loaded: set[int] = set()
        self._bytes = 0
        self._prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
        self._prog.add_memory_segment(0, 2**64 - 1, self._stack.read)
        # drgn knows the layout itself; members would tie the Program into a cycle, and keep its files open.
        self._type = self._prog.struct_type("pt_regs", REGISTERS_SIZE, ())

    def walk(self, sample: StackSample, image: ImageMap) -> tuple[int, ...]:
        """Spots of the frames, innermost first: where each stands, callers at their call instruction.

        What cannot be unwound ends the walk; there is always at least the first frame.  Raises ValueError
        if the sample's registers are not a whole ``struct pt_regs``.
        """
        if len(sample.registers) != REGISTERS_SIZE:
            raise ValueError(f"struct pt_regs has {REGISTERS_SIZE} bytes, not {len(sample.registers)}")
        if len(self._loaded) >= self._most_loaded or self._bytes > _MOST_BYTES // 2:
            self._begin()
        registers, first = self._at_spot(sample.registers, image)
        start = drgn.Object.from_bytes_(self._prog, self._type, registers)
        self._load(first)
        limit, unread = len(sample.data) // _WORD, 0
        spots: tuple[int, ...] = (first,)
        for _ in range(_MOST_WALKS):
            self._stack.show(sample, image, limit)
            try:
                spots = _spots(self._prog.stack_trace(start)) or spots
            except Exception:  # drgn raises many kinds, Exception itself among them
                # The frame table of the outermost frame is corrupt.  Read less and less, until the walk
                # ends before that frame: then what was not read is where the frame stands.
                limit, unread = self._stack.reads - 1, self._stack.last_spot
                if limit < 0:
                    break
                continue
            if not self._load(spots[-1]):
                break
        else:
            unread = 0
        if self._modules.of_spot(unread):
            spots = (*spots, unread - 1)
        return _without_guesses(spots, self._modules)

    def _at_spot(self, registers: bytes, image: ImageMap) -> tuple[bytes, int]:
        """The registers with the instruction pointer translated, and that.

        After a ``syscall`` instruction it is put back on it: it may be the last of its function.
        """
        (address,) = struct.unpack_from("<Q", registers, _IP_AT)
        spot = image.spot(address)
        if spot == address:
            spot = image.return_spot(address)
        module = self._modules.of_spot(spot)
        if module and module.bytes_before(elf_address(spot)).endswith(_SYSCALL):
            spot -= 1
        return registers[:_IP_AT] + struct.pack("<Q", spot) + registers[_IP_AT + _WORD :], spot

    def _load(self, spot: int) -> bool:
        """Give drgn the frame table of the module ``spot`` is in; False if it has it, or there is none."""
        module = self._modules.of_spot(spot)
        if module is None or module.id in self._loaded:
            return False
        self._loaded.add(module.id)
        try:
            return self._add_frames(module)
        except (ElfError, OSError) as error:
            module.problem = str(error)
        return False

    def _add_frames(self, module: Module) -> bool:
        elf = module.elf
        table = frame_table(elf) if elf is not None and elf.machine == EM_X86_64 and elf.bits == 64 else None
        if elf is None or table is None:
            return False
        self._bytes += len(table[1])
        if self._bytes > _MOST_BYTES:
            raise ElfError(elf.name, "the frame tables of the programs on one stack are too large together.")
        added = self._prog.extra_module(f"m{module.id}", module.id, create=True)
        added.address_range = (module.slot, module.slot + (1 << 48) - 1)
        added.debug_file_status = drgn.ModuleFileStatus.DONT_WANT
        added.try_file(f"m{module.id}", fd=write_frame_file(elf, *table), force=True)
        return bool(added.loaded_file_bias == module.slot)


def _spots(trace: drgn.StackTrace) -> tuple[int, ...]:
    """Where each frame stands.  A frame that is not further out than the one before it ends the trace."""
    spots: list[int] = []
    sp = -1
    for frame in trace:
        try:
            if frame.sp <= sp:
                break
            sp, pc = frame.sp, frame.pc
        except LookupError:
            break
        if not frame.interrupted:
            pc -= 1
        elif spots:
            # Only a signal's trampoline lies inside an interrupted frame.  No call led to it: the kernel
            # made the handler return to its first instruction.
            spots[-1] += 1
        spots.append(pc)
    return tuple(spots)


def _without_guesses(spots: tuple[int, ...], modules: Modules) -> tuple[int, ...]:
    """Without the frames at the outer end that lie in no file: nothing shows that they are frames."""
    end = len(spots)
    while end > 1 and modules.of_spot(spots[end - 1]) is None:
        end -= 1
    return spots[:end]


def _ends_in_call(module: Module, spot: int) -> bool:
    """Whether what stands before a return address can be a call: E8 rel32, or FF with /2 (AMD64 manual 3)."""
    code = module.bytes_before(elf_address(spot))
    if len(code) < 8:
        return False
    return code[-5] == 0xE8 or any(code[-n] == 0xFF and code[-n + 1] >> 3 & 7 == 2 for n in range(2, 8))
