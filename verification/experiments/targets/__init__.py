"""What is asked of delays, by whom: their statistics in a run, bounds on them, goodput."""
