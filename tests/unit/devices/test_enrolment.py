"""Who becomes a device: by token, by an operator's word, by its maker's certificate, by its root."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.x509.oid import NameOID

from qedge.base.errors import QedgeError
from qedge.devices.config import EnrolmentConfig
from qedge.devices.enrolment.makers import VOUCH_CONTEXT
from qedge.devices.enrolment.revocations import PeerDevices
from qedge.devices.model import DeviceState, OpenEnrolment
from qedge.devices.registry.service import claim_digest
from qedge.wire.gateway import (
    DeviceAdd,
    DeviceApproval,
    DeviceBatch,
    DeviceDraft,
    DeviceInvite,
    DeviceProfile,
    DeviceReason,
)
from qedge_device.constrained import ConstrainedDevice
from qedge_device.enrolling import Invitation, fingerprint_of
from qedge_device.joining import Maker
from qedge_device.messages import MessageType as Type
from qedge_device.reading import DeviceError
from qedge_device.rich import RichDevice
from tests.unit.devices.device_site import METER, Site, World, site

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | mldsa.MLDSA65PrivateKey


async def coded(here: Site, device: RichDevice) -> str:
    """Let a device say hello and return the code with which it is refused."""
    with pytest.raises(QedgeError) as error:
        await here.talk(device)
    return error.value.code


async def test_a_token_enrols_with_the_profile_that_the_operator_gave(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.enrolled()
        record = here.devices.registry.require("meter-1")
        assert record.state is DeviceState.ENROLLED
        assert (record.subject.device_class, record.subject.segment) == ("meter", "hall")
        assert record.subject.groups == frozenset({"north", "power"})
        kept = await here.devices.registry.keys("meter-1")
        assert kept.public_key == device.public_key
        assert kept.certificate == device.kept.certificate
        certificate = x509.load_der_x509_certificate(kept.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["qedge://lab/device/meter-1"]


async def test_a_device_that_waits_is_let_in_by_an_operator_who_compares_its_fingerprint(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        line = (await here.devices.desk.invite(DeviceInvite(uses=2, approval=True, profile=METER))).line
        devices = [RichDevice.from_invitation(line, random_bytes=here.world.random_bytes, name=n) for n in ("a", "b")]
        assert devices[0].username != devices[1].username
        for device in devices:
            with pytest.raises(DeviceError, match="pending"):
                await here.talk(device)
            assert device.retry_s == 10
        shown = await here.devices.desk.show("a")
        assert shown.fingerprint == fingerprint_of(devices[0].public_key)
        with pytest.raises(QedgeError, match="another fingerprint"):
            await here.devices.desk.approve("a", DeviceApproval(fingerprint_of(devices[1].public_key)))
        await here.devices.desk.approve("a", DeviceApproval(shown.fingerprint))
        assert await here.talk(devices[0]) == [Type.ENROL, Type.ENROLLED]
        assert len(await here.talk(devices[0])) == 4
        with pytest.raises(DeviceError, match="pending"):
            await here.talk(devices[1])
        third = RichDevice.from_invitation(line, random_bytes=here.world.random_bytes, name="c")
        assert await coded(here, third) == "device.spent"
        assert here.devices.registry.get("c") is None


async def test_a_device_without_any_invitation_waits_where_the_node_is_open_to_anybody(tmp_path: Path) -> None:
    async with site(tmp_path, enrolment=EnrolmentConfig(open_to=OpenEnrolment.ANYBODY, max_pending=1)) as here:
        line = Invitation("lab", "box-1", "", "", "", here.devices.authority.pin, 0).write()
        device, other = (
            RichDevice.from_invitation(line, random_bytes=here.world.random_bytes, name=n) for n in ("x", "y")
        )
        with pytest.raises(DeviceError, match="pending"):
            await here.talk(device)
        assert Type.REFUSED in (await _said(here, other))
        await here.devices.desk.approve("x", DeviceApproval(profile=METER))
        await here.talk(device)
        assert device.is_enrolled
        assert here.devices.registry.require("x").subject.segment == "hall"


async def test_a_stranger_that_asks_no_more_keeps_nobody_from_waiting_for_approval(tmp_path: Path) -> None:
    world = World()
    identity, config = world.identity("box-1"), EnrolmentConfig(open_to=OpenEnrolment.ANYBODY, max_pending=1)
    async with site(tmp_path, world=world, identity=identity, enrolment=config) as here:
        line = Invitation("lab", "box-1", "", "", "", here.devices.authority.pin, 0).write()
        device, other = (
            RichDevice.from_invitation(line, random_bytes=here.world.random_bytes, name=n) for n in ("x", "y")
        )
        for _ in range(2):
            with pytest.raises(DeviceError, match="pending"):
                await here.talk(device)
            here.clock.advance_s(3000)
            assert await _said(here, other) == [Type.REFUSED]  # it has asked within the hour
        here.clock.advance_s(3000)
        assert await _said(here, other) == [Type.PENDING]
        assert here.devices.registry.states()["pending"] == 1
    async with site(tmp_path, world=world, identity=identity, enrolment=config) as here:
        assert [each.subject.id for each in here.devices.registry] == ["y"]
        assert await _said(here, device) == [Type.REFUSED]
        here.clock.advance_s(3601)
        assert await _said(here, device) == [Type.PENDING]


async def _said(here: Site, device: RichDevice) -> list[Type]:
    answer = await here.devices.greeter.greet(device.username, device.hello())
    return [Type(answer[0])]


async def test_a_new_key_of_a_known_device_takes_the_place_of_the_old_which_is_revoked(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        old = await here.opened()
        line = (await here.devices.desk.invite(DeviceInvite("meter-1"))).line
        new = RichDevice.from_invitation(line, random_bytes=here.world.random_bytes, parameter=65)
        await here.talk(new)
        assert here.devices.sessions.current("meter-1") is None
        assert here.way.cuts == ["meter-1"]
        assert await here.devices.doorman.check("c", "meter-1", old.password("c").encode()) is None
        await here.talk(new)
        assert here.devices.registry.require("meter-1").parameter == 65
        assert here.devices.registry.require("meter-1").subject.segment == "hall"
        listed = msgspec.msgpack.decode((await here.devices.revoking.signed_list()).body)
        assert len(listed["entries"]) == 1


async def test_an_invitation_by_name_replaces_the_one_before(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        first = await here.invited()
        line = (await here.devices.desk.invite(DeviceInvite("meter-1"))).line
        assert await coded(here, first) == "device.refused"
        await here.talk(RichDevice.from_invitation(line, random_bytes=here.world.random_bytes))


class _Maker:
    """A maker with an authority, who certifies devices by serial number."""

    def __init__(self, kind: Callable[[], Key]) -> None:
        self.kind = kind
        self.key = kind()
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Maker")])
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        made = self._builder(self.name, self.key.public_key())
        made = made.add_extension(x509.BasicConstraints(True, 0), True).add_extension(usage, True)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
        self.root = made.sign(self.key, _hash(self.key))

    def write(self, folder: Path) -> str:
        """Write the authority as PEM."""
        file = folder / "maker.pem"
        file.write_bytes(self.root.public_bytes(serialization.Encoding.PEM))
        return str(file)

    def certify(self, serial: str, issuer: x509.Name | None = None) -> Maker:
        """Make a device's certificate with a serial number, and what signs with its key."""
        key = self.kind()
        subject = x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, serial)])
        made = self._builder(subject, key.public_key()).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False
        )
        der = made.sign(self.key, _hash(self.key)).public_bytes(serialization.Encoding.DER)
        return Maker((der,), lambda message: _sign(key, message))

    def _builder(self, subject: x509.Name, public_key: object) -> x509.CertificateBuilder:
        start = datetime.fromtimestamp(1_800_000_000, UTC) - timedelta(days=10)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name)
        made = made.public_key(public_key).serial_number(x509.random_serial_number())  # type: ignore[arg-type]  # any
        return made.not_valid_before(start).not_valid_after(start + timedelta(days=3650))


def _hash(key: Key) -> hashes.SHA256 | None:
    return hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _sign(key: Key, message: bytes) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    return key.sign(message, VOUCH_CONTEXT)


KINDS: dict[str, Callable[[], Key]] = {
    "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ml-dsa": mldsa.MLDSA65PrivateKey.generate,
}


def _made_by(here: Site, maker: Maker, name: str = "") -> RichDevice:
    line = Invitation("lab", "box-1", "", "", "", here.devices.authority.pin, 0).write()
    return RichDevice.from_invitation(line, random_bytes=here.world.random_bytes, name=name or "SN-1", maker=maker)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_makers_certificate_enrols_one_device_under_its_serial_number(tmp_path: Path, kind: str) -> None:
    maker = _Maker(KINDS[kind])
    config = EnrolmentConfig(
        open_to=OpenEnrolment.MANUFACTURERS,
        manufacturer_files=(maker.write(tmp_path),),
        approve_manufactured=True,
        manufactured_class="meter",
    )
    async with site(tmp_path, enrolment=config) as here:
        proof = maker.certify("SN-1")
        device = _made_by(here, proof)
        await here.talk(device)
        assert here.devices.registry.require("SN-1").subject.device_class == "meter"
        assert len(await here.talk(device)) == 4
        assert await coded(here, _made_by(here, proof)) == "device.refused"  # another key with the same certificate
        assert await coded(here, _made_by(here, proof, "SN-2")) == "device.refused"
        foreign = _Maker(KINDS[kind])
        assert await coded(here, _made_by(here, foreign.certify("SN-3"), "SN-3")) == "device.refused"
        stolen = Maker(maker.certify("SN-4").chain, maker.certify("SN-4").sign)  # a certificate without its key
        assert await coded(here, _made_by(here, stolen, "SN-4")) == "device.refused"
        nobody = RichDevice.from_invitation(
            Invitation("lab", "box-1", "", "", "", b"", 0).write(), random_bytes=here.world.random_bytes, name="n"
        )
        assert await coded(here, nobody) == "device.refused"


async def test_a_makers_certificate_alone_waits_for_the_operator_unless_configured(tmp_path: Path) -> None:
    maker = _Maker(KINDS["ecdsa"])
    config = EnrolmentConfig(open_to=OpenEnrolment.MANUFACTURERS, manufacturer_files=(maker.write(tmp_path),))
    async with site(tmp_path, enrolment=config) as here:
        with pytest.raises(DeviceError, match="pending"):
            await here.talk(_made_by(here, maker.certify("SN-1")))


async def test_a_file_that_holds_no_authority_is_refused_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "maker.pem"
    file.write_text("nothing")
    with pytest.raises(QedgeError, match="authority of a maker"):
        async with site(tmp_path, enrolment=EnrolmentConfig(manufacturer_files=(str(file),))):
            pass


async def test_a_device_with_its_makers_root_is_claimed_by_the_code_on_its_label(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        root = bytes(range(32))
        draft = DeviceDraft("70B3D57ED0001234", "constrained", root=root.hex(), claim_code="ab12-cd34")
        added = await here.devices.desk.add_batch(DeviceBatch((draft,)))
        assert added.invited == ()
        device = ConstrainedDevice("lab", "box-1", draft.name, root, here.world.random_bytes)
        with pytest.raises(QedgeError, match="may open a session"):
            await here.join(device)
        for code in ("", "wrong"):
            with pytest.raises(QedgeError, match="claimed"):
                await here.devices.desk.add(DeviceAdd(draft.name, "constrained", root="claimed", claim_code=code))
        wanted = DeviceAdd(draft.name, "constrained", METER, root="claimed", claim_code="AB12 CD34")
        assert (await here.devices.desk.add(wanted)).line == ""
        await here.join(device)
        assert here.up(draft.name, device.seal("t", b"1")) == b"\x01t1"
        with pytest.raises(QedgeError, match="claimed"):
            await here.devices.desk.add(wanted)
        assert claim_digest("a", "x-1") == claim_digest("a", "X1") != claim_digest("b", "x1")


async def test_a_peer_checks_a_device_by_its_nodes_delegation_and_list(tmp_path: Path) -> None:
    world = World()
    async with site(tmp_path, world=world) as here:
        await here.opened("good")
        await here.opened("bad")
        peer = PeerDevices(world.trust(), 86_400)
        good, bad = await here.devices.desk.credentials("good"), await here.devices.desk.credentials("bad")
        utc_ns, now_ns = here.clock.utc_ns, here.clock.now_ns
        assert peer.verify(good, utc_ns(), now_ns(), privileged=False).device == "good"
        with pytest.raises(QedgeError, match="missing or too old"):
            peer.verify(good, utc_ns(), now_ns(), privileged=True)  # no list yet: fail closed
        await here.devices.desk.revoke("bad", DeviceReason())
        first = await here.devices.revoking.signed_list()
        assert peer.take(first, utc_ns(), now_ns())
        assert not peer.take(first, utc_ns(), now_ns())
        assert peer.verify(good, utc_ns(), now_ns(), privileged=True).node == "box-1"
        with pytest.raises(QedgeError, match="revoked"):
            peer.verify(bad, utc_ns(), now_ns(), privileged=False)
        here.clock.advance_s(86_401)  # somebody withholds the next list
        assert peer.verify(good, utc_ns(), now_ns(), privileged=False)
        with pytest.raises(QedgeError, match="too old"):
            peer.verify(good, utc_ns(), now_ns(), privileged=True)
        assert peer.take(await here.devices.revoking.signed_list(), utc_ns(), now_ns())
        assert peer.verify(good, utc_ns(), now_ns(), privileged=True)
        await here.opened("late")
        late = await here.devices.desk.credentials("late")
        assert peer.verify(late, utc_ns(), now_ns(), privileged=True)
        with pytest.raises(QedgeError, match="device is not valid now"):  # that of its node is
            peer.verify(late, utc_ns() - 43_200 * 10**9, now_ns(), privileged=False)


async def test_nobody_but_the_node_speaks_for_its_devices(tmp_path: Path) -> None:
    world = World()
    async with site(tmp_path, world=world) as here, site(tmp_path, world=world, node="box-2") as there:
        await here.opened("one")
        await there.opened("two")
        peer = PeerDevices(world.trust(), 86_400)
        one, two = await here.devices.desk.credentials("one"), await there.devices.desk.credentials("two")
        for forged in (
            msgspec.structs.replace(one, delegation=two.delegation),
            msgspec.structs.replace(one, certificate=here.devices.authority.der),
            msgspec.structs.replace(
                one, delegation=msgspec.structs.replace(one.delegation, signature=two.delegation.signature)
            ),
            msgspec.structs.replace(one, delegation=msgspec.structs.replace(one.delegation, body=b"\xc1")),
        ):
            with pytest.raises(QedgeError) as error:
                peer.verify(forged, here.clock.utc_ns(), here.clock.now_ns(), privileged=False)
            assert error.value.code.startswith("auth.")
        with pytest.raises(QedgeError) as error:
            peer.take(one.delegation, here.clock.utc_ns(), here.clock.now_ns())
        assert error.value.code.startswith("auth.")


async def test_a_node_with_another_identity_makes_new_keys_for_its_devices(tmp_path: Path) -> None:
    world = World()
    async with site(tmp_path, world=world) as here:
        before = here.devices.authority.der
    async with site(tmp_path, world=world) as here:
        assert here.devices.authority.der != before


async def test_names_that_cannot_be_and_names_that_are_taken_are_refused(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.invited()
        for name, code in (("_x", "device.bad_name"), ("meter-1", "device.exists")):
            with pytest.raises(QedgeError) as error:
                await here.devices.desk.add(DeviceAdd(name))
            assert error.value.code == code
        await here.devices.desk.revoke("meter-1", DeviceReason("lost"))
        again = await here.enrolled()  # a name comes back with a new life and a new key
        assert again.is_enrolled
        assert here.devices.registry.require("meter-1").subject.revoked is False


async def test_more_devices_than_the_limit_are_refused(tmp_path: Path) -> None:
    from qedge.devices.config import SessionsConfig

    async with site(tmp_path, sessions=SessionsConfig(max_devices=1)) as here:
        await here.devices.desk.add(DeviceAdd("a", profile=DeviceProfile()))
        with pytest.raises(QedgeError) as error:
            await here.devices.desk.add(DeviceAdd("b"))
        assert error.value.code == "device.too_many"
