"""The truth now: the state of sessions and turns, folded from events, and what may be appended next."""
