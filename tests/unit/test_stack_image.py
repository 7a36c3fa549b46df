"""Which mapping an address is in, when later mappings lie over earlier ones."""

from __future__ import annotations

from clew.model.frame import Mapping
from clew.stack.image import ImageMap
from clew.stack.modules import Modules, elf_address

OLD = Mapping(0x10000, 0x50000, 0x1000, b"/old", since_ns=1)
NEW = Mapping(0x20000, 0x30000, 0, b"/new", since_ns=2)


def where(image: ImageMap, modules: Modules, address: int) -> tuple[bytes, int] | None:
    """Path and offset of an address; files that do not exist count by their file offsets."""
    spot = image.spot(address)
    module = modules.of_spot(spot)
    return (module.path, elf_address(spot)) if module else None


def test_an_address_in_no_file_stays_itself() -> None:
    image = ImageMap([OLD], Modules())
    assert [image.spot(a) for a in (0, 0xFFFF, 0x50000, 2**64 - 1)] == [0, 0xFFFF, 0x50000, 2**64 - 1]


def test_the_later_mapping_wins_where_both_are() -> None:
    for order in ([OLD, NEW], [NEW, OLD]):
        modules = Modules()
        image = ImageMap(order, modules)
        assert where(image, modules, 0x10000) == (b"/old", 0x1000)
        assert where(image, modules, 0x1FFFF) == (b"/old", 0x10FFF)
        assert where(image, modules, 0x20000) == (b"/new", 0)
        assert where(image, modules, 0x30000) == (b"/old", 0x21000)
        assert where(image, modules, 0x50000) is None


def test_a_return_address_belongs_to_the_call_before_it() -> None:
    after = Mapping(0x50000, 0x60000, 0, b"/after", since_ns=1)
    modules = Modules()
    image = ImageMap([OLD, after], modules)
    spot = image.return_spot(0x50000)
    module = modules.of_spot(spot - 1)
    assert module is not None
    assert (module.path, elf_address(spot)) == (b"/old", 0x41000)


def test_one_file_has_one_place_for_all_processes() -> None:
    modules = Modules()
    moved = Mapping(0x7F0000010000, 0x7F0000050000, 0x1000, b"/old", since_ns=9)
    assert ImageMap([OLD], modules).spot(0x12345) == ImageMap([moved], modules).spot(0x7F0000012345)


def test_another_build_of_a_file_is_another_place() -> None:
    modules = Modules()
    other = Mapping(OLD.start, OLD.end, OLD.file_offset, OLD.path, b"\x01" * 20)
    assert ImageMap([OLD], modules).spot(0x12345) != ImageMap([other], modules).spot(0x12345)


def test_code_that_a_jit_made_is_in_no_file_and_nothing_is_missing() -> None:
    modules = Modules()
    image = ImageMap([Mapping(0x7000, 0x9000, 0, b"//anon")], modules)
    assert image.spot(0x8000) == 0x8000
    assert [module.problem for module in modules] == []
