"""clew: follow one request through every process, and hold any of them in your debugger."""

from __future__ import annotations

TYPE_CHECKING = False  # as typing's, which takes longer to import than `clew --help` should wait for
if TYPE_CHECKING:
    from typing import Any

    from clew.api import Engine as Engine
    from clew.api import HeldTask as HeldTask
    from clew.api import Holding as Holding
    from clew.api import holding as holding

__version__ = "0.1.0"
_API = ("Engine", "HeldTask", "Holding", "holding")


def __getattr__(name: str) -> Any:
    # Only who holds tasks pays for importing what that takes.
    if name in _API:
        from clew import api

        return getattr(api, name)
    raise AttributeError(f"module 'clew' has no attribute {name!r}")
