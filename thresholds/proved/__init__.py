"""Windows with all that a proof of them takes, so that sums check it."""
