"""Incidents, trust and the audit log, over HTTP."""
