"""``manent suite`` and ``manent review``: recorded turns that are replayed again and again, and answers accepted."""
