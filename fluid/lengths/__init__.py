"""Laws of lengths: stated by a few numbers, made whole tokens, put together into a few."""
