"""Who writes: a turn's rounds of model and tools, recorded before they are shown."""
