"""Who reads: a turn's frames and a log's events, from any cursor, live or from the log."""
