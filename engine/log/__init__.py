"""The append-only log: events in, positions out; nothing of it knows of chat."""
