"""A bundle is what was signed, or it is refused, cheaply."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.crypto.pq_worker import PqTarget
from qedge.fleet.update.bundle import MANIFEST, SIGNATURES, check_files, open_bundle, unpack, verify_bundle
from qedge.fleet.update.disk import read_release_keys
from qedge.fleet.update.fake import FakeSecond, fake_verify
from qedge.fleet.update.machine import verify_second
from qedge.fleet.update.making import Plan, make_bundle
from qedge.fleet.update.signing import SECOND_ALGORITHM, key_id, make_key, require_signed, sign_manifest
from qedge.wire.update import FileKind, Manifest
from tests.unit.fleet.update.bundles import MADE_NS, make, make_release_key, make_wheel

Entries = dict[str, bytes]


def _entries(bundle: Path) -> Entries:
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(entries: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return target.getvalue()


def _code(data: bytes) -> str:
    with pytest.raises(QedgeError) as caught:
        check_files(open_bundle(io.BytesIO(data)))
    return caught.value.code


def _with_name(entries: Entries, name: str) -> Entries:
    """Give the first wheel another name, in the archive and in the manifest."""
    wheel = next(each for each in entries if each.endswith(".whl"))
    manifest = entries[MANIFEST].replace(wheel.encode(), name.encode())
    return {**{key: data for key, data in entries.items() if key != wheel}, MANIFEST: manifest, name: entries[wheel]}


def test_what_was_signed_is_unpacked_and_nothing_else(tmp_path: Path) -> None:
    secret = make_release_key()
    with make(tmp_path, secret).open("rb") as file:
        opened = open_bundle(file)
        assert verify_bundle(opened, [make_release_key(2).key, secret.key], fake_verify) == secret.key
        target = tmp_path / "target"
        target.mkdir()
        unpack(opened, target)
    assert {path.name for path in target.iterdir()} == {each.name for each in opened.manifest.files}
    assert [each.kind for each in opened.manifest.files] == [FileKind.WHEEL, FileKind.WHEEL, "sbom", "cbom"]
    for path in (tmp_path / "wheels-0.2.0").iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes()


def test_the_same_wheels_make_the_same_bundle(tmp_path: Path) -> None:
    secret = make_release_key()
    first, second = make(tmp_path / "a", secret), make(tmp_path / "b", secret)
    one, other = _entries(first), _entries(second)
    assert one.keys() == other.keys()
    assert {name for name in one if one[name] != other[name]} <= {
        SIGNATURES,
        *(each for each in one if each.endswith(".whl") or each in (MANIFEST, "sbom.cdx.json")),
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda entries: {**entries, "more.whl": b"more"},
        lambda entries: {name: data for name, data in entries.items() if not name.startswith("some_thing")},
        lambda entries: {**entries, MANIFEST: b"{}"},
        lambda entries: {**entries, MANIFEST: b"[" * 100_000},
        lambda entries: {**entries, SIGNATURES: b"\xff"},
        lambda entries: {**entries, MANIFEST: entries[MANIFEST] + b" " * 300_000},
        lambda entries: {name: data for name, data in entries.items() if name != SIGNATURES},
        lambda entries: {**entries, "sbom.cdx.json": bytes(len(entries["sbom.cdx.json"]))},
        lambda entries: _with_name(entries, "../../etc/cron.d/x"),
        lambda entries: _with_name(entries, "/etc/passwd"),
        lambda entries: _with_name(entries, ".hidden"),
        lambda entries: _with_name(entries, "folder/x.whl"),
        lambda entries: _with_name(entries, "x\\..\\y.whl"),
        lambda entries: {**entries, **{f"f{number}": b"" for number in range(600)}},
    ],
)
def test_a_bundle_that_was_altered_is_refused(tmp_path: Path, change: Callable[[Entries], Entries]) -> None:
    entries = change(_entries(make(tmp_path, make_release_key())))
    assert _code(_zipped(list(entries.items()))) == "update.bad_bundle"


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    entries = list(_entries(make(tmp_path, make_release_key())).items())
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = _zipped([*entries, entries[-1]])
    assert _code(data) == "update.bad_bundle"


def test_compressed_bundles_are_refused(tmp_path: Path) -> None:
    entries = list(_entries(make(tmp_path, make_release_key())).items())
    assert _code(_zipped(entries, zipfile.ZIP_DEFLATED)) == "update.bad_bundle"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data + b"behind",
        lambda data: b"before" + data,
        lambda data: data[:-22] + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, 2**31, 0, 0),
        lambda data: data[:-22] + bytes(22),
        lambda data: data[:-42] + b"PK\x06\x07" + data[-38:],
        lambda data: bytes(4096),
    ],
)
def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    assert _code(change(make(tmp_path, make_release_key()).read_bytes())) == "update.bad_bundle"


def test_no_byte_of_a_bundle_can_be_changed_unnoticed(tmp_path: Path) -> None:
    secret = make_release_key()
    data = make(tmp_path, secret).read_bytes()
    contents = _contents(data, secret)
    for place in range(0, len(data), 61):
        altered = data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :]
        try:
            assert _contents(altered, secret) == contents, place
        except QedgeError as error:
            assert error.code in ("update.bad_bundle", "update.bad_signature"), place


def _contents(data: bytes, secret: object) -> dict[str, bytes]:
    opened = open_bundle(io.BytesIO(data))
    verify_bundle(opened, [getattr(secret, "key")], fake_verify)  # noqa: B009 - the tests' own secret
    check_files(opened)
    return {each.name: opened.archive.read(each.name) for each in opened.manifest.files}


def test_nothing_is_written_through_a_link_that_lies_in_wait(tmp_path: Path) -> None:
    with make(tmp_path, make_release_key()).open("rb") as file:
        opened = open_bundle(file)
        target = tmp_path / "target"
        target.mkdir()
        (target / opened.manifest.files[0].name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(FileExistsError):
            unpack(opened, target)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("half", ["ml_dsa", "slh_dsa"])
def test_one_good_signature_of_two_is_not_enough(half: str) -> None:
    secret, second = make_release_key(), FakeSecond()
    good = sign_manifest(b"manifest", secret, second)
    assert require_signed(b"manifest", good, [secret.key], fake_verify) == secret.key
    other = sign_manifest(b"another", secret, second)
    bad = msgspec.structs.replace(good, **{half: getattr(other, half)})
    with pytest.raises(QedgeError) as caught:
        require_signed(b"manifest", bad, [secret.key], fake_verify)
    assert caught.value.code == "update.bad_signature"


def test_halves_of_two_trusted_keys_make_no_key(tmp_path: Path) -> None:
    one, two = make_release_key(1), make_release_key(2)
    mixed = msgspec.structs.replace(one.key, slh_dsa=b"another key of the family")
    assert len({key_id(each) for each in (one.key, two.key, mixed)}) == 3


def test_no_trusted_key_means_no_update() -> None:
    secret = make_release_key()
    with pytest.raises(QedgeError) as caught:
        require_signed(b"manifest", sign_manifest(b"manifest", secret, FakeSecond()), [], fake_verify)
    assert caught.value.code == "update.no_key"


def test_the_second_family_is_really_checked() -> None:
    target = PqTarget({}, None)

    class Second:
        def keygen(self) -> tuple[bytes, bytes]:
            return b"", b""

        def sign(self, secret_key: bytes, message: bytes, context: bytes) -> bytes:
            answer = target.handle("specimen", {"algorithm": SECOND_ALGORITHM, "message": message, "context": context})
            assert isinstance(answer, dict)
            self.public = answer["public_key"]
            signature = answer["signature"]
            assert isinstance(signature, bytes)
            return signature

    second = Second()
    secret = make_key("real", bytes, second)
    signatures = sign_manifest(b"manifest", secret, second)
    assert isinstance(second.public, bytes)
    key = msgspec.structs.replace(secret.key, slh_dsa=second.public)
    signatures = msgspec.structs.replace(signatures, key_id=key_id(key))
    assert require_signed(b"manifest", signatures, [key], verify_second) == key
    broken = bytes([signatures.slh_dsa[0] ^ 1]) + signatures.slh_dsa[1:]
    with pytest.raises(QedgeError) as caught:
        require_signed(b"manifest", msgspec.structs.replace(signatures, slh_dsa=broken), [key], verify_second)
    assert "SLH-DSA" in caught.value.message


@pytest.mark.parametrize("mode", [0o666, 0o664])
def test_a_key_that_others_may_write_proves_nothing(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "release.json"
    path.write_bytes(msgspec.json.encode(make_release_key().key))
    path.chmod(mode)
    with pytest.raises(QedgeError) as caught:
        read_release_keys(tmp_path, owner=path.stat().st_uid)
    assert caught.value.code == "update.no_key"
    path.chmod(0o644)
    assert len(read_release_keys(tmp_path, owner=path.stat().st_uid)) == 1
    with pytest.raises(QedgeError):
        read_release_keys(tmp_path, owner=path.stat().st_uid + 1)


def test_a_folder_without_qedge_or_with_two_of_it_makes_no_bundle(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "other", "1.0")
    plan = Plan(wheels, "0.1", "3.11", "linux-x86_64", MADE_NS)
    for versions in ((), ("0.1", "0.2")):
        for version in versions:
            make_wheel(wheels, "qedge", version)
        with pytest.raises(QedgeError) as caught:
            make_bundle(plan, tmp_path / "x.qup", make_release_key(), FakeSecond())
        assert caught.value.code == "update.bad_bundle"
    assert not (tmp_path / "x.qup").exists()


def test_a_manifest_keeps_its_form() -> None:
    text = (
        b'{"type":"update-manifest/1","version":"0.2.0","minimum_previous":"0.1","python":"3.11",'
        b'"platform":"linux-x86_64","made_utc_ns":1800000000000000000,"files":[{"name":"qedge-0.2.0-py3-none-any.whl",'
        b'"kind":"wheel","sha256":"' + b"0" * 64 + b'","size":7}]}'
    )
    assert msgspec.json.encode(msgspec.json.decode(text, type=Manifest)) == text
