"""The log in one SQLite file: connections, the lock, the schema and its guards, upkeep."""
