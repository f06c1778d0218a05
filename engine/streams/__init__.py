"""Streams: a turn's frames and a log's events for readers, from any cursor, live or from the log."""
