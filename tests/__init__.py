"""The tests: unit (pure), integration (real processes), golden (whole views), and the programs they run."""
