"""What tests share: the programs they run, what those testify, and waiting for a condition."""
