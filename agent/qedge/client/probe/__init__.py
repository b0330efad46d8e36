"""Conformance of a key manager (KME) to ETSI GS QKD 014 V1.1.1, seen from its clients: ours, or anyone's."""
