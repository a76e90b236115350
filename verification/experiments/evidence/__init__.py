"""What replications say: which requests fall behind, and whether an interval can be trusted."""
