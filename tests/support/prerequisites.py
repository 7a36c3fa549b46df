"""What a test needs of the machine: ``@pytest.mark.requires("root", "bpf")``, and what becomes of a lack.

On one's own machine a test that lacks something is skipped, with the reason.  Where CI is set, everything can
be installed: a skip is a failure there, whoever asked for it, unless the kernel itself refuses; that is
skipped too, and told of once more at the end.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from tests.support.machine import NEEDS, lack

_IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")
REFUSED = "the kernel refuses: "
"""How the reason of a skip begins that no package and no right would mend on this machine."""


def require(*needs: str) -> None:
    """Skip (in CI: fail) the running test unless the machine has ``needs``; for fixtures and parameters."""
    for need in needs:
        found = lack(need)
        if found:
            pytest.skip(REFUSED + found.reason if found.kernel else found.reason)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, so that a misspelt one is an error."""
    config.addinivalue_line(
        "markers", f"requires(*needs): what the machine must have, of: {', '.join(NEEDS)}"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look at the markers before any fixture does its work."""
    for mark in item.iter_markers("requires"):
        require(*mark.args)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn skips into failures in CI, unless the kernel refuses."""
    report = yield
    if not report.skipped or hasattr(report, "wasxfail") or call.excinfo is None:
        return report
    reason = str(call.excinfo.value)
    if _IN_CI and not reason.startswith(REFUSED):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which in CI is a failure: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module that is skipped while it is read."""
    report = yield
    if report.skipped and _IN_CI:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped, which in CI is a failure: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was not tested."""
    refused: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        # (file, line, "Skipped: reason"), as pytest.skip leaves it.
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        if reason.startswith(REFUSED):
            refused.setdefault(reason, []).append(report.nodeid)
    if refused:
        terminalreporter.section("NOT TESTED: refused by this machine's kernel", red=True, bold=True)
    for reason, tests in refused.items():
        terminalreporter.line(f"{reason}: {len(tests)} tests, the first {tests[0]}", red=True)
