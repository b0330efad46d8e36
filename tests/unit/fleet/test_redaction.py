"""Nothing that is secret passes the redactor, however it is written; what helps to find a fault does."""

from __future__ import annotations

import base64
import json
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.base.log import SCRUBBED, scrub
from qedge.fleet.diagnostics.collection import configured_secrets
from qedge.fleet.diagnostics.redaction import LEAST_SECRET_BYTES, MARK, Redactor

KEY = bytes(range(7, 39))
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nAAAA\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (PEM, "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"),
        ("join with qedge1:AbCdEf0123456789-_xyz now", "AbCdEf0123456789-_xyz"),
        ("mqtts://user:hush%20hush@host/", "hush"),
        ("url=mqtt://box:hunter2@10.0.0.1:1883", "hunter2"),
        ("Authorization: Bearer abc.def-ghi_jkl", "abc.def-ghi_jkl"),
        ('password = "open sesame"', "open sesame"),
        ("api_key: 0123456789", "0123456789"),
        ('{"token": "tok-12345", "x": 1}', "tok-12345"),
        ("settings = { access_token = 'tick tock' }", "tick tock"),
        ('tokens = [\n  "first one",\n  "second ] one",\n]', "second ] one"),
        ('password = """\nopen\nsesame"""', "sesame"),
        ("passphrase = '''\nopen sesame\n'''", "open sesame"),
        ('credentials = { user = "u", key = "v }w" }', "v }w"),
        ('access_key = "0123456789"', "0123456789"),
        ("mqtts://user:hush@hush@host/", "hush"),
        ("GET https://cloud/b.qup?X-Amz-Signature=0123456789abcdef&x=1", "0123456789abcdef"),
        (f"key {base64.b64encode(KEY + KEY).decode()}", base64.b64encode(KEY + KEY).decode()),
        (f"shared {(KEY + KEY).hex()}", (KEY + KEY).hex()),
    ],
)
def test_what_looks_secret_is_taken_out(text: str, secret: str) -> None:
    redactor = Redactor()
    found = redactor.redact(text)
    assert secret not in found
    assert MARK in found
    assert redactor.count >= 1


@pytest.mark.parametrize(
    "text",
    [
        "key_id 0123456789abcdef0123456789abcdef",
        "job 018f6b1e-7c1a-7abc-8def-0123456789ab",
        f"sha256 {'0123456789abcdef' * 4}",
        "qedge/v1/fleet/box-1/devices-revoked is a topic of more than forty characters",
        "qedge_engine_jobs_total_by_latency_class_and_state_of_the_node 3",
        'password_file = "/etc/qedge/broker.password"',
        '{"token": ""}',
        "/var/lib/qedge/some/deep/folder/with/many/levels/qedge.sqlite3",
    ],
)
def test_what_helps_to_find_a_fault_stays(text: str) -> None:
    assert Redactor().redact(text) == text


@given(
    secret=st.binary(min_size=LEAST_SECRET_BYTES, max_size=64),
    before=st.text(string.ascii_letters + " ", max_size=20),
    after=st.text(string.ascii_letters + " ", max_size=20),
    shift=st.integers(0, 2),
)
def test_a_known_secret_is_found_in_every_encoding(secret: bytes, before: str, after: str, shift: int) -> None:
    wrapped = base64.b64encode(bytes(shift) + secret + b"end").decode()
    plain = Redactor([secret])
    assert secret.hex() not in plain.redact(f"{before} {secret.hex()} {after}")
    whole = base64.b64encode(secret).decode().rstrip("=")
    assert whole[:-1] not in Redactor([secret]).redact(f"{before} {whole} {after}")
    inside = Redactor([secret])
    found = inside.redact(f"{before} {wrapped} {after}")
    if len(secret) > LEAST_SECRET_BYTES:
        assert wrapped not in found


@given(st.text(string.printable, min_size=LEAST_SECRET_BYTES, max_size=30).filter(lambda text: text.strip() == text))
def test_a_known_secret_is_found_in_text_and_in_json(secret: str) -> None:
    redacted = Redactor([secret.encode()]).redact(f"before {secret} after")
    assert secret not in redacted.replace(MARK, "")
    written = json.dumps({"x": secret})
    assert json.dumps(secret)[1:-1] not in Redactor([secret.encode()]).redact(written).replace(MARK, "")


def test_what_stands_below_the_name_of_a_secret_in_a_file_is_known_wherever_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(
        """
        [drivers.qpu.settings.credentials]
        user = "who-am-i"
        keys = ["alpha-beta", { inner = "gamma-delta" }]
        [broker]
        password_file = "/etc/qedge/password"
        [[drivers.link.settings.peers]]
        api_key = '''
epsilon-zeta
eta-theta'''
        """
    )
    broken = tmp_path / "broken.toml"
    broken.write_text("token = ")
    found = configured_secrets([str(file), str(broken), str(tmp_path / "none.toml")])
    assert {b"who-am-i", b"alpha-beta", b"gamma-delta", b"epsilon-zeta", b"eta-theta"} <= set(found)
    assert b"/etc/qedge/password" not in found
    redacted = Redactor(found).redact(file.read_text() + "\nthe vendor refused gamma-delta")
    assert not [each for each in ("who-am-i", "beta", "delta", "zeta", "theta") if each in redacted]


@pytest.mark.parametrize("name", ["api_key", "apikey", "access_key", "passphrase", "vendor_password", "Token"])
def test_settings_that_are_shown_to_operators_elsewhere_hold_no_value_of_a_secret_name(name: str) -> None:
    assert scrub({"settings": {name: "hunter2", "key_id": "ab"}}) == {"settings": {name: SCRUBBED, "key_id": "ab"}}
    assert scrub({"url": "mqtt://u:p@ss@host"}) == {"url": "mqtt://u:***@host"}
