"""Orders of updates and what answers them: what was written once stays readable."""

from __future__ import annotations

import msgspec
import pytest

from qedge.wire.update import Outcome, SoftwareUpdate, SoftwareUpdated, UpdateReport, UpdateRequest

ORDER = SoftwareUpdate("0.2.0", "https://example.org/qedge.qup", "0" * 64, 190_000_000)
GOLDEN_ORDER = bytes.fromhex(
    "85a474797065b1736f6674776172652d7570646174652f31a776657273696f6ea5302e322e30a6736f75726365bd"
    "68747470733a2f2f6578616d706c652e6f72672f71656467652e717570a6736861323536d940" + "30" * 64 + "a473697a65ce0b532b80"
)
RESULT = SoftwareUpdated("0.2.0", "0.1.0", 3.5)
GOLDEN_RESULT = bytes.fromhex(
    "84a474797065b2736f6674776172652d757064617465642f31a776657273696f6ea5302e322e30a870726576696f7573a5302e312e30"
    "a6676174655f73cb400c000000000000"
)


@pytest.mark.parametrize(("struct", "golden"), [(ORDER, GOLDEN_ORDER), (RESULT, GOLDEN_RESULT)])
def test_messages_keep_their_form(struct: msgspec.Struct, golden: bytes) -> None:
    assert msgspec.msgpack.encode(struct) == golden
    assert msgspec.msgpack.decode(golden, type=type(struct)) == struct


def test_an_updater_of_before_is_understood() -> None:
    text = b'{"id":"x","outcome":"rolled-back","version":"0.2.0","previous":"0.1.0","utc_ns":1}'
    report = msgspec.json.decode(text, type=UpdateReport)
    assert (report.outcome, report.databases, report.gate_s) == (Outcome.ROLLED_BACK, (), 0.0)


@pytest.mark.parametrize("bundle", ["../x", "a/b", ".x", "", "x" * 201, "a\0b", "a b"])
def test_a_request_names_a_file_of_one_folder(bundle: str) -> None:
    text = msgspec.json.encode({"id": "x", "bundle": bundle, "sha256": "0" * 64})
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=UpdateRequest)
