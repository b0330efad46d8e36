"""Settings of attached devices: enrolment, certificates, sessions, admission."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from qedge.devices.model import OpenEnrolment
from qedge.devices.onward.config import OnwardConfig
from qedge.devices.segments.config import GroupKeyConfig, SegmentConfig
from qedge.devices.ways_in.config import IntakeConfig, ListenerConfig

MAX_SEGMENTS: Final = 256


class EnrolmentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[devices.enrolment]`: who may become a device of this node, and for how long it is certified."""

    open_to: Annotated[
        OpenEnrolment,
        msgspec.Meta(
            description="Who may ask without an invitation: `nobody`, `manufacturers` (devices with a certificate of a "
            "configured maker) or `anybody` (an operator has to approve each)."
        ),
    ] = OpenEnrolment.NOBODY
    manufacturer_files: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=r"^/", max_length=1024, title="an absolute path")], ...],
        msgspec.Meta(description="PEM files with the authorities of makers whose devices are believed.", max_length=64),
    ] = ()
    approve_manufactured: Annotated[
        bool,
        msgspec.Meta(description="Whether a device with a good certificate of its maker needs no operator."),
    ] = False
    manufactured_class: Annotated[
        str,
        msgspec.Meta(
            description="Class of devices that enrol by a maker's certificate.",
            pattern=r"^[A-Za-z0-9_-]{0,36}\Z",
            title="a name or empty",
        ),
    ] = ""
    manufactured_segment: Annotated[
        str,
        msgspec.Meta(
            description="Segment of devices that enrol by a maker's certificate.",
            pattern=r"^[A-Za-z0-9_-]{0,36}\Z",
            title="a name or empty",
        ),
    ] = ""
    token_s: Annotated[float, msgspec.Meta(description="How long an invitation is good.", ge=60, le=31_536_000)] = 900.0
    certificate_s: Annotated[
        float,
        msgspec.Meta(
            description="Life of a device's certificate; it is renewed in a session after two thirds of it.",
            ge=3600,
            le=315_360_000,
        ),
    ] = 7_776_000.0
    max_pending: Annotated[
        int, msgspec.Meta(description="Devices that may wait for approval at a time.", ge=1, le=100_000)
    ] = 1000
    revocations_max_age_s: Annotated[
        float,
        msgspec.Meta(
            description="Age after which a peer's list of revoked devices is too old for anything privileged.",
            ge=60,
            le=2_592_000,
        ),
    ] = 86_400.0


class SessionsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[devices.sessions]`: how long sessions last, and how many handshakes are done at a time."""

    max_devices: Annotated[int, msgspec.Meta(description="Devices that the node takes.", ge=1, le=1_000_000)] = 50_000
    full_s: Annotated[
        float,
        msgspec.Meta(
            description="Time after which a rich device has to prove its key again; until then it resumes.",
            ge=60,
            le=2_592_000,
        ),
    ] = 86_400.0
    constrained_s: Annotated[
        float, msgspec.Meta(description="Life of a session of a constrained device.", ge=60, le=31_536_000)
    ] = 604_800.0
    kem_key_s: Annotated[
        float,
        msgspec.Meta(
            description="Life of the key to which devices seal their half of a session; the one before stays good.",
            ge=3600,
            le=31_536_000,
        ),
    ] = 2_592_000.0
    full_handshakes_per_s: Annotated[
        float, msgspec.Meta(description="Full handshakes that are begun in a second.", ge=1, le=100_000)
    ] = 200.0
    resumptions_per_s: Annotated[
        float, msgspec.Meta(description="Resumptions and joins that are done in a second.", ge=1, le=100_000)
    ] = 1000.0
    enrolments_per_s: Annotated[
        float, msgspec.Meta(description="Enrolments that are begun in a second.", ge=0.1, le=10_000)
    ] = 50.0
    waiting: Annotated[
        int,
        msgspec.Meta(description="Handshakes that may wait for the thread of public keys.", ge=1, le=10_000),
    ] = 256
    threads: Annotated[int, msgspec.Meta(description="Threads of public-key operations.", ge=1, le=64)] = 1


class DevicesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[devices]`: the gateway for attached devices."""

    enabled: Annotated[
        bool, msgspec.Meta(description="Take devices at all. Without a policy nothing is allowed to any of them.")
    ] = False
    enrolment: EnrolmentConfig = EnrolmentConfig()
    sessions: SessionsConfig = SessionsConfig()
    listener: ListenerConfig = ListenerConfig()
    broker: IntakeConfig = IntakeConfig()
    segments: Annotated[
        dict[
            Annotated[
                str,
                msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,36}\Z", title="at most 36 letters, digits, - and _"),
            ],
            SegmentConfig,
        ],
        msgspec.Meta(max_length=MAX_SEGMENTS),
    ] = {}
    group_keys: GroupKeyConfig = GroupKeyConfig()
    onward: OnwardConfig = OnwardConfig()


DEVICE_SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "devices": DevicesConfig,
    "devices.enrolment": EnrolmentConfig,
    "devices.sessions": SessionsConfig,
    "devices.listener": ListenerConfig,
    "devices.broker": IntakeConfig,
    "devices.segments.NAME": SegmentConfig,
    "devices.group_keys": GroupKeyConfig,
    "devices.onward": OnwardConfig,
}
"""Sections as the reference lists them."""
