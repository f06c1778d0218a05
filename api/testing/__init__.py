"""What the package gives to the tests of others: a plugin of pytest."""
