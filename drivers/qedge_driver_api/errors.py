"""What a driver may raise. Anything else is reported as a fault of the driver itself."""

from __future__ import annotations


class DriverError(Exception):
    """Root of the errors of drivers; the text is one sentence for the operator and holds no secret."""


class RetriableError(DriverError):
    """The fault may pass (device unplugged, busy, timed out): the host tries again with back-off."""


class FatalError(DriverError):
    """The fault will not pass by itself (wrong firmware, broken device): somebody has to act."""


class BadSettingsError(DriverError):
    """The settings cannot work; `key` names the field at fault (empty where several are)."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class ProgramError(DriverError):
    """A QPU cannot run this program (unsupported gate, too many qubits); the device itself is well.

    `code` is a short stable word such as `too_many_qubits`, `unsupported`, `too_many_shots`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
