"""Verification of a whole database: leaves, projections, checkpoints."""
