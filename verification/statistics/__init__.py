"""How sure a simulated number is: intervals, batch means, percentiles, how many replications; for any process."""
