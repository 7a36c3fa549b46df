"""What the recorder writes into an object lies where it writes it, whichever compiler made the object."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from clew.engine.bpf import probes as folder_of_probes
from clew.engine.calls import kernel_table

OBJECT = Path(folder_of_probes.__path__[0]) / "record.bpf.o"
SIZES = {".rodata.config": len(kernel_table()) + 12, ".data.root": 4}


@pytest.mark.requires("compiler")
@pytest.mark.parametrize("section", SIZES)
def test_the_section_holds_one_variable(section: str) -> None:
    # clang 19 puts a table of its own before the variables of .rodata.
    if not OBJECT.exists():
        pytest.skip("the probes are not built")
    dumped = subprocess.check_output(["readelf", "-SW", OBJECT], text=True).replace("[ ", "[")
    (number,) = [line.split()[0].strip("[]") for line in dumped.splitlines() if f" {section} " in line]
    symbols = subprocess.check_output(["readelf", "-sW", OBJECT], text=True)
    fields = [line.split() for line in symbols.splitlines() if " OBJECT " in line]
    within = [(int(field[1], 16), int(field[2])) for field in fields if field[6] == number]
    assert within == [(0, SIZES[section])]
