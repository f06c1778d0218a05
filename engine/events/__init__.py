"""The record: event types, content blocks, usage and prices, cuts, and the reading of old shapes."""
