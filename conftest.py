"""What every test has, those of examples/ too: pytest takes plugins from the topmost conftest only."""

pytest_plugins = (
    "tests.support.warden",
    "tests.support.dispositions",
    "tests.support.last_resort",
    "tests.support.prerequisites",
    "tests.support.engines",
    "tests.support.runtime",
    "tests.support.libvirt_fixtures",
)
