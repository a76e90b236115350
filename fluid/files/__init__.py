"""Files: read in bounded memory, written whole or not at all."""
