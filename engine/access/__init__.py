"""What callers may use: limits on how many requests and tokens, for each key and each provider."""
