"""What every test has, those of examples/ too: pytest takes plugins from the topmost conftest only."""

pytest_plugins = ("tests.support.prerequisites", "tests.support.engines", "tests.support.libvirt_fixtures")
