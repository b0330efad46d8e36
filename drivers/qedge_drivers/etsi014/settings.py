"""Settings of a vendor's key manager."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from qedge_driver_api import BadSettingsError, setting


@dataclass(frozen=True)
class Etsi014Settings:
    """Where the key manager is, who we are to it, and with whom keys are shared."""

    url: str = setting(description="Address of the key manager: https://HOST:PORT, with a path where it has one.")
    peer_sae: str = setting(description="SAE id of the other end: slave of keys taken here, master of those collected.")
    certificate: str = setting(description="PEM file with our certificate, which says our SAE id.")
    private_key: str = setting(description="PEM file with the private key to it, not sealed by a password.")
    authorities: str = setting(description="PEM file with the authority of the key manager's certificate.")
    sae_id: str = setting("", description="Our SAE id, to be compared with what the key manager says; empty: not.")
    kme_id: str = setting(
        "", description="KME id that the key manager's certificate (URI, or common name) must say; empty: any."
    )
    timeout_s: float = setting(5.0, description="Longest time for one answer.", unit="s", minimum=0.1, maximum=60.0)


def check(settings: Etsi014Settings) -> None:
    """Raise `BadSettingsError` for what cannot work; no file is read."""
    try:
        parts = urlsplit(settings.url)
        good = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise BadSettingsError("url: expected https://HOST:PORT", "url")
    for key in ("certificate", "private_key", "authorities"):
        if not str(getattr(settings, key)).startswith("/"):
            raise BadSettingsError(f"{key}: expected an absolute path", key)
    if not settings.peer_sae:
        raise BadSettingsError("peer_sae: expected an SAE id", "peer_sae")
