"""What comes of a finding: incidents, responses, and what nodes tell each other."""
