"""Reconciliation: Bob's sifted bits become Alice's by syndromes of low-density parity-check codes, one way."""
