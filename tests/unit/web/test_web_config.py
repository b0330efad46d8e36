from __future__ import annotations

import msgspec
import pytest

from qedge.web.config import WebConfig, socket_mode, socket_path


def test_nothing_configured_means_private_socket_and_free_loopback_port() -> None:
    config = WebConfig()
    assert (config.host, config.port, socket_mode(config)) == ("127.0.0.1", 0, 0o600)
    assert socket_path(config, "/run/qedge") == "/run/qedge/qedge.sock"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "localhost", ""])  # noqa: S104 - must be refused
def test_only_loopback_addresses_are_accepted(host: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"host": host}, WebConfig)


def test_the_socket_opens_only_as_far_as_asked() -> None:
    assert socket_mode(WebConfig(socket_group="quantum")) == 0o660
    assert socket_mode(WebConfig(allowed_uids=(1000,))) == 0o666
    assert socket_path(WebConfig(socket="/tmp/x.sock"), "/run/qedge") == "/tmp/x.sock"


def test_every_field_says_what_it_is() -> None:
    (schema,) = msgspec.json.schema_components((WebConfig,))[1].values()
    for name, field in schema["properties"].items():
        assert field.get("description", "").endswith("."), name
