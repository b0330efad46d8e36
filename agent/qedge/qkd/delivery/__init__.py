"""Key delivery by ETSI GS QKD 014 V1.1.1: the rules, without HTTP and without the store that holds the keys."""
