"""How devices become known: invitations, approval, makers' certificates, roots; certificates and revocation."""
