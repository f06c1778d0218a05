"""Bundles: a session or a log in one file that verifies offline (FORMAT.md)."""
