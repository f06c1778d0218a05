"""The command ``manent``: one file a command."""
