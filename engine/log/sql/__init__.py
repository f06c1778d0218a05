"""The log's tables and queries, for every database that SQLAlchemy speaks to."""
