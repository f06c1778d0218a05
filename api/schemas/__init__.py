"""Wire types of the HTTP API: bodies, answers, parameters."""
