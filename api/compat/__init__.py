"""Routes in the shapes of others: one file a protocol."""
