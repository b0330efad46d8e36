"""Keys for applications by ETSI GS QKD 014: a service of its own, with certificates on both sides."""
