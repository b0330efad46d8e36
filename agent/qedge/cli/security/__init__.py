"""Commands about policy, incidents, the audit log and algorithms."""
