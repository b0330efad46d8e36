"""Claims about the table of algorithms, the suites, and `[crypto]`."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.cli.configuration import check
from qedge.cli.security import crypto as crypto_command
from qedge.crypto import self_test
from qedge.crypto.config import CryptoConfig
from qedge.crypto.policy import check_policy
from qedge.crypto.pq_worker import CHECKED, PqTarget
from qedge.crypto.registry import ALGORITHMS, REFUSED, SUITES, Kind, Status, look_up, require_usable, usable_suites

ALL_REFUSED = [
    ("sike", "ml-kem-768"),
    ("SIKEp434", "ml-kem-768"),
    ("newhope1024", "ml-kem-768"),
    ("kyber768", "ml-kem-768"),
    ("Kyber1024", "ml-kem-1024"),
    ("ml-kem-512", "ml-kem-768"),
    ("dilithium3", "ml-dsa-65"),
    ("dilithium5", "ml-dsa-87"),
    ("SPHINCS+-SHA2-128s", "ml-dsa-87"),
    ("rainbow-I", "ml-dsa-65"),
    ("hash-ml-dsa-65", "ml-dsa-65"),
    ("HASH_ML_DSA_87_SHA512", "ml-dsa-87"),
    ("x25519", "mlkem768-x25519"),
    ("P-384", "mlkem1024-p384"),
    ("ed25519", "ml-dsa-65"),
    ("ecdsa-p256", "ml-dsa-65"),
    ("rsa-4096", "ml-dsa-65"),
]


@pytest.mark.parametrize(("name", "better"), ALL_REFUSED)
def test_a_refused_name_is_told_with_reason_reference_and_replacement(name: str, better: str) -> None:
    row = look_up(name)
    assert row is not None
    assert row.status is Status.REFUSED
    with pytest.raises(QedgeError) as caught:
        require_usable(name, experimental=True)
    assert caught.value.code == "crypto.refused_algorithm"
    assert row.reason in caught.value.message
    assert row.reference in caught.value.message
    assert better in caught.value.fix


def test_every_refused_family_has_reason_reference_and_a_replacement_that_is_allowed() -> None:
    for _, row in REFUSED:
        assert row.reason, row.name
        assert row.reference.startswith("https://"), row.name
        assert ALGORITHMS[row.replacement].status is Status.ALLOWED, row.name
        assert ALGORITHMS[row.replacement].kind is row.kind, row.name


def test_no_usable_name_falls_into_a_refused_family() -> None:
    assert all(look_up(name) is row for name, row in ALGORITHMS.items())
    assert all(row.status is not Status.REFUSED for row in ALGORITHMS.values())


@pytest.mark.parametrize("name", ["ML-KEM-768", "ml_kem_768", " ml-kem-768 "])
def test_names_are_found_however_they_are_written(name: str) -> None:
    assert look_up(name) is ALGORITHMS["ml-kem-768"]


@pytest.mark.parametrize("name", ["falcon-512", "falcon-1024"])
def test_a_reserved_algorithm_is_unavailable_even_to_who_wants_experiments(name: str) -> None:
    with pytest.raises(QedgeError, match="standard not final") as caught:
        require_usable(name, experimental=True)
    assert caught.value.code == "crypto.unavailable_algorithm"


def test_an_experimental_algorithm_is_usable_only_where_it_was_asked_for() -> None:
    assert require_usable("hqc-128", experimental=True).status is Status.EXPERIMENTAL
    with pytest.raises(QedgeError, match="experimental") as caught:
        require_usable("hqc-128", experimental=False)
    assert caught.value.code == "crypto.unavailable_algorithm"
    assert "ml-kem-768" in caught.value.fix


def test_an_unknown_name_is_told_with_the_nearest_known_one() -> None:
    assert look_up("ml-kem-769") is None
    with pytest.raises(QedgeError) as caught:
        require_usable("ml-kem-769", experimental=True)
    assert caught.value.code == "crypto.unknown_algorithm"
    assert "ml-kem-768" in caught.value.fix


def test_suites_are_made_of_allowed_algorithms_and_no_weaker_than_they_say() -> None:
    for suite in SUITES.values():
        exchange, signature, aead, digest = (
            ALGORITHMS[name] for name in (suite.key_exchange, suite.signature, suite.aead, suite.hash)
        )
        assert [row.kind for row in (exchange, signature, aead, digest)] == [
            Kind.KEM,
            Kind.SIGNATURE,
            Kind.AEAD,
            Kind.HASH,
        ]
        assert {row.status for row in (exchange, signature, aead, digest)} == {Status.ALLOWED}
        assert suite.category == min(exchange.category, signature.category)
        assert ALGORITHMS[suite.group.lower()].kind is Kind.GROUP


def test_suites_come_in_the_order_of_preference_and_have_names_of_their_own() -> None:
    suites = usable_suites(CryptoConfig())
    assert [suite.number for suite in suites] == [1, 3, 2]
    assert [suite.alpn for suite in suites] == [b"qedge/1", b"qedge/3", b"qedge/2"]


@pytest.mark.parametrize(
    ("config", "numbers"),
    [
        (CryptoConfig(floor=5), [2]),
        (CryptoConfig(ciphers=("chacha20-poly1305",)), [3]),
        (CryptoConfig(ciphers=("AES-256-GCM",)), [1, 2]),
        (CryptoConfig(signatures=("ml-dsa-87",)), [2]),
        (CryptoConfig(floor=5, ciphers=("chacha20-poly1305",)), []),
    ],
)
def test_settings_leave_only_suites_all_of_whose_parts_are_allowed(config: CryptoConfig, numbers: list[int]) -> None:
    assert [suite.number for suite in usable_suites(config)] == numbers


def test_the_defaults_are_the_allowed_algorithms_and_have_no_fault() -> None:
    config = CryptoConfig()
    allowed = [row for row in ALGORITHMS.values() if row.status is Status.ALLOWED]
    assert config.signatures == tuple(row.name for row in allowed if row.kind is Kind.SIGNATURE)
    assert config.ciphers == tuple(row.name for row in allowed if row.kind is Kind.AEAD)
    # A session wants a hybrid: ML-KEM alone is for messages.
    assert config.key_exchange == tuple(row.name for row in allowed if row.kind is Kind.KEM and row.name[:5] == "mlkem")
    assert list(check_policy(config)) == []


def test_settings_that_leave_no_suite_are_a_fault_that_says_what_would_do() -> None:
    [fault] = check_policy(CryptoConfig(floor=5, signatures=("ml-dsa-65",)))
    assert fault.path == ("crypto",)
    assert "mlkem1024-p384 + ml-dsa-87 + aes-256-gcm" in fault.expected


def test_an_algorithm_of_another_kind_is_a_fault() -> None:
    [fault] = check_policy(CryptoConfig(ciphers=("aes-256-gcm", "ml-kem-768")))
    assert fault.path == ("crypto", "ciphers", 1)
    assert "not a cipher" in fault.problem


@pytest.mark.parametrize(
    ("key", "name", "better"),
    [
        ("key_exchange", "sike", "ml-kem-768"),
        ("key_exchange", "newhope", "ml-kem-768"),
        ("key_exchange", "kyber768", "ml-kem-768"),
        ("key_exchange", "x25519", "mlkem768-x25519"),
        ("key_exchange", "hqc-128", "ml-kem-768"),
        ("signatures", "dilithium3", "ml-dsa-65"),
        ("signatures", "falcon-512", "ml-dsa-65"),
        ("signatures", "no-such", "ml-dsa-65"),
    ],
)
def test_qedge_check_fails_on_what_is_not_used_and_names_the_replacement(
    key: str, name: str, better: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "agent.toml"
    kept = {"key_exchange": "mlkem768-x25519", "signatures": "ml-dsa-65"}[key]
    file.write_text(f"[crypto]\n{key} = ['{kept}', '{name}']\n")
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    assert check.run(parser.parse_args(["--no-drivers", str(file)])) != 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(f"{file}:2: crypto.{key}[1]: ")
    assert name in line
    assert better in line.split("; expected ")[1]


def test_an_experimental_name_is_no_fault_where_experiments_are_on() -> None:
    names = ("mlkem768-x25519", "hqc-128")
    assert list(check_policy(CryptoConfig(key_exchange=names, experimental=True))) == []


@pytest.mark.parametrize("name", [row.name for row in ALGORITHMS.values() if row.status is Status.ALLOWED])
def test_every_allowed_algorithm_does_what_the_registry_says(name: str) -> None:
    row = ALGORITHMS[name]
    if not self_test.is_testable(row):
        pytest.skip(f"{row.provider} is not installed")
    self_test.run_once(row, os.urandom)


def test_the_self_test_says_which_size_is_wrong() -> None:
    with pytest.raises(QedgeError, match="ciphertext has 5 bytes, not 1088") as caught:
        self_test.check_sizes(ALGORITHMS["ml-kem-768"], {"ciphertext": 5})
    assert caught.value.code == "crypto.test_failed"


def test_a_library_whose_sizes_are_not_those_of_the_registry_fails_the_self_test() -> None:
    row = ALGORITHMS["sha-256"]
    with pytest.raises(QedgeError, match="digest has 32 bytes, not 31"):
        self_test.run_once(replace(row, sizes={"digest": 31}), bytes)


def test_two_libraries_that_disagree_fail_the_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashlib, "new", lambda _name, _data: hashlib.sha256(b"something else"))
    with pytest.raises(QedgeError, match="sha-256: two libraries give different digests"):
        self_test.run_once(ALGORITHMS["sha-256"], os.urandom)


@pytest.mark.parametrize("name", ["hqc-128", "sntrup761", "mceliece-348864", "slh-dsa-sha2-128f", *CHECKED])
def test_the_worker_does_round_trips_with_the_sizes_of_the_registry(name: str) -> None:
    answer = PqTarget({}, None).handle("test", {"algorithm": name, "runs": 1})
    assert isinstance(answer, dict)
    assert answer["ok"], answer["problem"]


def test_the_worker_does_no_lasting_ml_dsa_keys_no_long_contexts_and_nothing_refused() -> None:
    target = PqTarget({}, None)
    calls: list[tuple[str, dict[str, object], str]] = [
        ("keygen", {"algorithm": "ml-dsa-65"}, "crypto.unavailable_algorithm"),
        ("sign", {"algorithm": "ml-dsa-65", "secret_key": b"", "message": b""}, "crypto.unavailable_algorithm"),
        ("keygen", {"algorithm": "aes-256-gcm"}, "crypto.unavailable_algorithm"),
        ("keygen", {"algorithm": "kyber768"}, "crypto.refused_algorithm"),
        ("keygen", {"algorithm": "falcon-512"}, "crypto.unavailable_algorithm"),
        ("dance", {"algorithm": "hqc-128"}, "crypto.unavailable_algorithm"),
        ("keygen", {}, "crypto.unknown_algorithm"),
        ("encaps", {"algorithm": "hqc-128", "public_key": b"short"}, "auth.bad_key"),
        ("encaps", {"algorithm": "hqc-128"}, "auth.bad_key"),
        ("specimen", {"algorithm": "ml-dsa-44", "message": b"", "context": bytes(65)}, "auth.bad_key"),
    ]
    for method, args, code in calls:
        with pytest.raises(QedgeError) as caught:
            target.handle(method, args)
        assert caught.value.code == code, method


def _command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    crypto_command.add_arguments(parser)
    return crypto_command.run(parser.parse_args(words))


def test_the_list_shows_refused_algorithms_with_what_to_use_instead(capsys: pytest.CaptureFixture[str]) -> None:
    assert _command("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("sike*")] == ["ml-kem-768"]
    assert [line.split()[2] for line in lines if line.startswith("ml-dsa-65 ")] == ["allowed"]
    assert _command("list", "--status", "reserved", "--json") == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["falcon-512", "falcon-1024"]


def test_the_test_of_a_box_runs_both_providers_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert _command("test", "--json", "aes-256-gcm", "ml-kem-768", "ml-dsa-65", "hqc-128") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert {(trial["algorithm"], trial["check"], trial["provider"]) for trial in report["trials"]} == {
        ("aes-256-gcm", "round trip", "cryptography"),
        ("ml-kem-768", "round trip", "cryptography"),
        ("ml-kem-768", "cross-check", "both"),
        ("ml-dsa-65", "round trip", "cryptography"),
        ("ml-dsa-65", "cross-check", "both"),
        ("hqc-128", "round trip", "pqcrypto"),
    }


def test_a_failed_trial_ends_with_a_code_that_scripts_see(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        self_test.require(False, ALGORITHMS["hkdf"], "two libraries give different keys")

    monkeypatch.setattr(self_test, "run_once", fails)
    assert _command("test", "hkdf") == 1
    assert "FAIL  hkdf" in capsys.readouterr().out
