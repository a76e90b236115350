"""The iteration time from measured batches: a room apart, since a replica may also come from a data sheet."""
