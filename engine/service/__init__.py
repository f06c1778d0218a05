"""What callers ask of the engine: sessions, turns, evidence, erasure, export, replay."""
