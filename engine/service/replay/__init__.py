"""Doing a recorded conversation again: played back, or run on another model."""
