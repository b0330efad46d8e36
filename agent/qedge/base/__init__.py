"""Errors, ids, clocks, Service, back-off, state tables, metric and event names: what every room stands on."""
