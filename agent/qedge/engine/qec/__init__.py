"""Quantum error correction: memory experiments and the decoding of blocks and streams; in workers."""
