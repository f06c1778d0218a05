"""What the vendors' HTTP protocols share: the client, server-sent events, failures."""
