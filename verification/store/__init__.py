"""Finished rows on disk, for good once written: what a long experiment goes on from when it was interrupted."""
