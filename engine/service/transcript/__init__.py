"""Transcripts: a session as a person reads it, as one HTML page or as Markdown."""
