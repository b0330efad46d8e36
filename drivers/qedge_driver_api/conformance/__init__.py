"""The conformance kit: what every driver must do, checked against a driver; standard library only.

`run(DriverClass, settings)` returns a `Report`. From a shell: `python -m qedge_driver_api.conformance NAME`, where NAME
is an installed entry point or `module:Class`.
"""

from qedge_driver_api.conformance.kit import run
from qedge_driver_api.conformance.report import CheckResult, Outcome, Report

__all__ = ["CheckResult", "Outcome", "Report", "run"]
