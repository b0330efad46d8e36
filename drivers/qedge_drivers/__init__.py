"""Drivers that come with qedge, one folder each; they import the driver contract and nothing else of qedge."""
