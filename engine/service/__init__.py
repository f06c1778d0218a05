"""The service that callers use: sessions, turns, evidence, erasure, export, replay."""
