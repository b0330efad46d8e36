"""The contract between qedge and the drivers of quantum hardware; standard library only.

A driver is a class with plain blocking methods. qedge loads it by entry point (group `qedge.drivers`) in a process of
its own, calls it with deadlines, and kills that process when a call hangs. Start with `Driver`, then the protocol of
your kind of hardware: `QpuDriver`, `QkdTransceiver`, `QkdKeySource` or `QrngDriver`.
"""

from qedge_driver_api.circuit import Condition, ConditionKind, FlatCircuit, Gate, Op, check_circuit
from qedge_driver_api.driver import (
    API_VERSION,
    ENTRY_POINT_GROUP,
    AdminState,
    Driver,
    DriverContext,
    DriverInfo,
    DriverKind,
    Health,
    OperatingState,
    Property,
    PropertyValue,
    Reconfigurable,
    SettingInfo,
    check_setting,
    setting,
    settings_from_mapping,
    settings_schema,
)
from qedge_driver_api.errors import BadSettingsError, DriverError, FatalError, ProgramError, RetriableError
from qedge_driver_api.qkd import (
    DetectionBlock,
    FinishedKey,
    Preparations,
    QkdKeySource,
    QkdRole,
    QkdTransceiver,
)
from qedge_driver_api.qpu import (
    DeviceStatus,
    JobStatus,
    OperationProperties,
    ProgramFormat,
    QpuDriver,
    QpuEstimate,
    QpuProperties,
    QpuResult,
    QpuTask,
    SiteProperties,
)
from qedge_driver_api.qrng import QrngDriver, RawSamples

__all__ = [
    "API_VERSION",
    "ENTRY_POINT_GROUP",
    "AdminState",
    "BadSettingsError",
    "Condition",
    "ConditionKind",
    "DetectionBlock",
    "DeviceStatus",
    "Driver",
    "DriverContext",
    "DriverError",
    "DriverInfo",
    "DriverKind",
    "FatalError",
    "FinishedKey",
    "FlatCircuit",
    "Gate",
    "Health",
    "JobStatus",
    "Op",
    "OperatingState",
    "OperationProperties",
    "Preparations",
    "ProgramError",
    "ProgramFormat",
    "Property",
    "PropertyValue",
    "QkdKeySource",
    "QkdRole",
    "QkdTransceiver",
    "QpuDriver",
    "QpuEstimate",
    "QpuProperties",
    "QpuResult",
    "QpuTask",
    "QrngDriver",
    "RawSamples",
    "Reconfigurable",
    "RetriableError",
    "SettingInfo",
    "SiteProperties",
    "check_circuit",
    "check_setting",
    "setting",
    "settings_from_mapping",
    "settings_schema",
]
