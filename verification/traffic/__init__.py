"""Who arrives when, and as what each request is seen: all randomness of a run enters here, by seed and replication."""
