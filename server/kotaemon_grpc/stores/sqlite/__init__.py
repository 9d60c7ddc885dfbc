"""The embedded store: SQLite is the truth, tantivy a derived index."""
