"""SQLite: one writer in a thread of its own, numbered migrations, honest about a full disk."""
