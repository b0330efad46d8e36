"""Vector instructions for the kernels of QKD: which of them this CPU has, and vectors as types of numba."""
