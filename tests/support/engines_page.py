"""The part of docs/engines.md that is made: what the JSON of the two engines may differ in.

python -m tests.support.engines_page            writes it
python -m tests.support.engines_page --check    status 1 if the page is not up to date (./x lint)
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.agreement import PERMITTED

PAGE = Path(__file__).resolve().parents[2] / "docs" / "engines.md"
_BEGIN = (
    "<!-- Made from PERMITTED in tests/support/agreement.py by `python -m tests.support.engines_page`. -->\n"
)
_END = "<!-- Until here. -->\n"


def table() -> str:
    """The permitted differences as a table in Markdown."""
    rows = [f"| {each.what} | {each.because} |\n" for each in PERMITTED]
    return "".join(["| what may differ | because |\n", "|---|---|\n", *rows])


def with_table(page: str) -> str:
    """The page with the table as it should be.  Raises ValueError if the marks are not in it."""
    before, rest = page.split(_BEGIN)
    _, after = rest.split(_END)
    return before + _BEGIN + table() + _END + after


def main(words: list[str]) -> int:
    """Write the page, or check it.  Returns the exit status."""
    old = PAGE.read_text()
    new = with_table(old)
    if words == ["--check"]:
        if old != new:
            print("docs/engines.md is not up to date: python -m tests.support.engines_page writes it.")
        return int(old != new)
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
