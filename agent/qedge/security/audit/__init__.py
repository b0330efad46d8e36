"""The audit log: append-only, chained by hashes, signed at checkpoints."""
