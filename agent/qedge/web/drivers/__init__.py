"""Drivers and QPUs of the node, over HTTP."""
