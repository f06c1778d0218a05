"""Turns: the rounds of model and tools that write to the log, recorded before they are shown."""
