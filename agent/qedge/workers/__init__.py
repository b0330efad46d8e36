"""Supervised child processes that host drivers and heavy kernels."""
