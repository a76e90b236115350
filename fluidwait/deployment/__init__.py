"""The deployment file, and only here: everything a user writes in TOML becomes checked values, or one line of error."""
