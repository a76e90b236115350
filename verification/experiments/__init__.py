"""What is asked of runs, whoever made them: replications, verdicts, checks of predictions, capacity, invariants."""
