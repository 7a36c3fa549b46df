"""Writes the golden files anew: ``python -m tests.golden.view``.  Look at them before they are committed."""

from __future__ import annotations

from tests.golden.view.golden import GOLDEN, shown

for path in GOLDEN:
    path.write_text(shown(path))
