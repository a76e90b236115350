"""Decision rules, one per file: what each does when the server is free."""
