"""Where the command ``clew`` begins: ^C while it still imports ends it without a traceback."""

from __future__ import annotations

import signal

TYPE_CHECKING = False  # as typing's, which takes as long to import as all of ours
if TYPE_CHECKING:
    from typing import NoReturn


def run() -> NoReturn:
    """The entry point.  ``clew.cli.main.run`` takes ^C as an exception again, and answers for it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from clew.cli import main

    main.run()
