"""Commands about quantum keys: the stores, applications, key managers."""
