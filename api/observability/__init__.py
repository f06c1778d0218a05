"""What whoever operates a server sees of it: metrics and log lines. Neither holds a word of anybody."""
