"""Tools: what a model may call, the sources of tools, and how a call is run within its limits."""
