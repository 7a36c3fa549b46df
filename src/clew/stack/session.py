"""Backtraces of samples from any number of processes: unwind all, then name each place once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from clew.code.debug_files import DEBUG_ROOTS
from clew.model.frame import Backtrace, Frame, Mapping, StackSample
from clew.stack.image import ImageMap
from clew.stack.modules import FileFinder, Module, Modules, elf_address
from clew.stack.symbols import Line, Place, places
from clew.stack.walk import Walker

Spots = tuple[int, ...]
"""An unwound stack without names: one place in the code for each frame, innermost first."""


class UnwindSession:
    """What is shared by all samples of a recording: the files read, drgn's tables, the names.

    ``find_file`` says where to read the file of a mapping from (None: it cannot be had); the default is
    its path in our own mount namespace.  ``lines`` False leaves DWARF unread: no file:line, no inlined
    frames.  ``debug_roots`` are looked through for ``.build-id/xx/yyyy.debug``.

        session = UnwindSession()
        walks = {s.stack_id: session.walk(s, mappings_of(s.pid, s.t_ns)) for s in samples}
        session.name_all(walks.values())
        backtraces = {stack_id: session.backtrace(spots) for stack_id, spots in walks.items()}
    """

    def __init__(
        self,
        find_file: FileFinder | None = None,
        lines: bool = True,
        debug_roots: Sequence[Path] = DEBUG_ROOTS,
    ) -> None:
        self._modules = Modules(find_file)
        self._walker = Walker(self._modules)
        self._images: dict[tuple[Mapping, ...], ImageMap] = {}
        self._frames: dict[int, Backtrace] = {}
        self._lines = lines
        self._debug_roots = debug_roots

    def image(self, mappings: Sequence[Mapping]) -> ImageMap:
        """The image that has these mappings, the same for equal ones (threads, forked children)."""
        key = tuple(mappings)
        image = self._images.get(key)
        if image is None:
            image = self._images[key] = ImageMap(key, self._modules)
        return image

    def walk(self, sample: StackSample, image: ImageMap | Sequence[Mapping]) -> Spots:
        """Unwind one sample.  Cheap: no names.  ValueError if its registers are not a ``struct pt_regs``.

        ``image`` is what ``image()`` gave, or the mappings that the process had at ``sample.t_ns``.
        """
        return self._walker.walk(sample, image if isinstance(image, ImageMap) else self.image(image))

    def name_all(self, walks: Iterable[Spots]) -> None:
        """Name and place every spot of the walks that has no name yet: symbols, then DWARF, in one go."""
        new = sorted({spot for spots in walks for spot in spots}.difference(self._frames))
        by_module: dict[int, list[int]] = {}
        for spot in new:
            module = self._modules.of_spot(spot)
            if module is None:
                self._frames[spot] = (Frame("", b"", spot),)
            else:
                by_module.setdefault(module.id, []).append(spot)
        asked = [(self._module(spots[0]), [elf_address(s) for s in spots]) for spots in by_module.values()]
        for (module, addresses), found in zip(
            asked, places(asked, self._lines, self._debug_roots), strict=True
        ):
            for address in addresses:
                self._frames[module.slot + address] = _frames_of(module, address, found[address])

    def backtrace(self, spots: Spots) -> Backtrace:
        """The frames of a walk, inlined ones included, innermost first."""
        if any(spot not in self._frames for spot in spots):
            self.name_all([spots])
        return tuple(frame for spot in spots for frame in self._frames[spot])

    def unwind(self, sample: StackSample, image: ImageMap | Sequence[Mapping]) -> Backtrace:
        """Walk and name one sample.  For many, ``walk`` all first: names then come in one go."""
        return self.backtrace(self.walk(sample, image))

    @property
    def problems(self) -> dict[bytes, str]:
        """Files whose code could not be unwound or named, and why: for a note in the views."""
        return {module.path: module.problem for module in self._modules if module.problem}

    def _module(self, spot: int) -> Module:
        module = self._modules.of_spot(spot)
        assert module is not None
        return module


def _frames_of(module: Module, address: int, place: Place) -> Backtrace:
    inner = [Frame(at.function, module.path, address, at.file, at.line, True) for at in place.lines[:-1]]
    # The symbol is what other tools and our own rules know the function by, so it goes first.
    outer = place.lines[-1] if place.lines else Line("", "", 0)
    return (*inner, Frame(place.name or outer.function, module.path, address, outer.file, outer.line))


class Unwinder:
    """A session with one image: for the samples of a single process."""

    def __init__(self, mappings: Sequence[Mapping], session: UnwindSession | None = None) -> None:
        self._session = session or UnwindSession()
        self._image = self._session.image(mappings)

    def unwind(self, sample: StackSample) -> Backtrace:
        """The sample's frames, innermost first; at least one."""
        return self._session.unwind(sample, self._image)
