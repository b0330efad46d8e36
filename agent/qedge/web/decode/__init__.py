"""Decode streams, over a WebSocket."""
