"""Tools: what a model may call, where they come from, and how a call is run within its limits."""
