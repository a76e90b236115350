"""What a measured run of a real server says: whether it keeps up, where time goes, how far a model is from it."""
