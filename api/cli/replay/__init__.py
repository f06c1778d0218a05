"""``manent replay``: recorded turns done again, here or on a server, and what came of it."""
