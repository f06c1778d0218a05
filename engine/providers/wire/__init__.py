"""The vendors' HTTP protocols, as far as they are the same: the client, server-sent events, failures."""
