"""Conversations as YAML files: read and checked here, run on any model, and held against what they expect."""
