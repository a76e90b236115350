"""What no policy can do: least iterations, least seconds, and prices that prove it."""
