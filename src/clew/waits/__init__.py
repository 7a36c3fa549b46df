"""Who waits for whom now, read from /proc of running programs: nothing is recorded, attached or stopped."""
