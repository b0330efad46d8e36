"""Who may do what: policy, trust, threats, incidents, and the record of decisions."""
