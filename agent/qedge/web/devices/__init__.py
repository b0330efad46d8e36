"""Attached devices, over HTTP."""
