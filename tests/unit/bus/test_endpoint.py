"""Where the broker is and how to be let in."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.bus.config import BusConfig
from qedge.bus.credentials import BrokerCredentials, read_password, tls_context
from qedge.bus.endpoint import external_endpoint
from qedge.bus.model import Endpoint
from tests.unit.devices.ways_in.tls_files import write_certificate


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("mqtt://broker.example", "broker.example", 1883, False),
        ("mqtts://broker.example", "broker.example", 8883, True),
        ("mqtt://10.0.0.1:1884", "10.0.0.1", 1884, False),
        ("mqtts://[2001:db8::1]:8884", "2001:db8::1", 8884, True),
        ("mqtt://[::1]", "::1", 1883, False),
    ],
)
def test_a_url_names_host_port_and_tls(url: str, host: str, port: int, tls: bool) -> None:
    config = msgspec.convert({"url": url}, BusConfig)
    assert external_endpoint(config) == Endpoint(host, port, "external", tls)


def test_without_a_url_the_node_has_a_private_broker() -> None:
    assert external_endpoint(BusConfig()) is None


@pytest.mark.parametrize(
    "url",
    ["mqtt://user:password@host", "http://host", "mqtt://", "mqtt://host/path", "mqtt://host:", "mqtt://a b", "host"],
)
def test_a_url_that_is_none_or_holds_a_password_is_a_fault_of_the_configuration(url: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"url": url}, BusConfig)


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_a_port_out_of_range_is_refused(port: str) -> None:
    with pytest.raises(QedgeError) as error:
        external_endpoint(BusConfig(url=f"mqtt://host:{port}"))
    assert error.value.code == "config.invalid"


def test_credentials_are_never_shown() -> None:
    endpoint = Endpoint("::1", 8883, "external", True, "user", "hush")
    assert endpoint.shown == "mqtts://[::1]:8883"
    assert "hush" not in f"{endpoint!r} {endpoint}"


def test_a_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("pässword \nsecond line\n", "utf-8")
    assert read_password(str(file)) == "pässword "
    assert read_password("") == ""


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_password_file_that_cannot_be_used_is_refused_without_its_content(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(QedgeError) as error:
        read_password(str(file))
    assert error.value.code == "bus.refused"
    assert error.value.fix


def test_certificates_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for settings in ({"ca_file": str(tmp_path / "ca.pem")}, {"cert_file": str(tmp_path / "absent.pem")}):
        with pytest.raises(QedgeError) as error:
            tls_context(BusConfig(url="mqtts://host", **settings))
        assert error.value.code == "bus.refused"
    assert tls_context(BusConfig(url="mqtt://host", ca_file="/nowhere")) is None


def test_changed_credentials_count_and_bad_ones_leave_the_old(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path)
    password = tmp_path / "password"
    password.write_text("old\n")
    config = BusConfig(url="mqtts://host", ca_file=cert, cert_file=cert, key_file=key, password_file=str(password))
    kept = BrokerCredentials(config)
    first = kept.tls
    assert (kept.tls, kept.password) == (first, "old")
    password.write_text("the new one\n")
    write_certificate(tmp_path)
    second = kept.tls
    assert second is not first
    assert kept.password == "the new one"
    Path(key).write_text("no key")
    assert (kept.tls, kept.password) == (second, "the new one")
