"""What recording, following and holding cost, beside strace and perf, in one run."""
