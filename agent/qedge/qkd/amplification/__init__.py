"""Privacy amplification: hashing with random Toeplitz matrices, exact on every CPU."""
