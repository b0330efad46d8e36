"""What nodes keep in the shared state: each module one namespace."""
