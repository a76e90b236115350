"""How others write request traces: a file for each kind, and what all of them are made into."""
