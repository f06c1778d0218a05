"""Sessions of a database file or of a server: one contract, two members."""
