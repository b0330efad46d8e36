"""The policy engine: documents in TOML, the decision table made from them, bundles that a fleet's authority signed."""
