"""Metrics and log lines for whoever operates a server. Neither holds a word of anybody."""
