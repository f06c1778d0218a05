"""``manent chat``: a conversation in the terminal, over HTTP or on the file."""
