"""Subjects of devices, apps and peers are found once each, and only while their names are somebody's."""

from __future__ import annotations

from qedge.devices.segments.directory import Directory
from qedge.security.model import Subject, SubjectKind


def test_everybody_has_one_subject_and_strangers_none() -> None:
    device = Subject("d1", SubjectKind.DEVICE)
    peers = {"box-2"}
    directory = Directory({"d1": device}.get, {"dashboard"}.__contains__, peers.__contains__)
    assert directory.find(SubjectKind.DEVICE, "d1") is device
    peer = directory.find(SubjectKind.PEER, "box-2")
    assert peer is not None
    assert peer is directory.find(SubjectKind.PEER, "box-2")
    assert directory.find(SubjectKind.APP, "dashboard") is not None
    for kind, name in ((SubjectKind.PEER, "dashboard"), (SubjectKind.APP, "d1"), (SubjectKind.CLOUD, "box-2")):
        assert directory.find(kind, name) is None
    peers.clear()
    assert directory.find(SubjectKind.PEER, "box-2") is None
