"""The stock libvirt that tests share: started when the first of them asks, ended with the run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.libvirt import Libvirt, private_libvirt
from tests.support.prerequisites import require


@pytest.fixture(scope="session")
def libvirt() -> Iterator[Libvirt]:
    """The system's libvirtd and virtlogd on private folders; they take seconds to come up."""
    require("root", "libvirt")
    with private_libvirt() as found:
        yield found
