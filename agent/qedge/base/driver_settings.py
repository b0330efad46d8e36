"""Driver settings as a configuration gives them, checked against the schema that the driver describes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from qedge.base.settings import Fault, KeyPath, show, toml_value, unknown_key
from qedge_driver_api import BadSettingsError, SettingInfo, check_setting


def check_driver_settings(
    schema: Sequence[SettingInfo], values: Mapping[str, object], path: KeyPath
) -> Iterator[Fault]:
    """Find all faults of the settings under the key path `path`."""
    known = {info.key: info for info in schema}
    for key, value in values.items():
        info = known.get(key)
        if info is None:
            yield unknown_key((*path, key), list(known))
            continue
        try:
            check_setting(info, value)
        except BadSettingsError:
            yield Fault((*path, key), f"is {show(key, value)}", setting_words(info))
    for key, info in known.items():
        if info.default is None and key not in values:
            yield Fault((*path, key), "missing key", setting_words(info))


def setting_words(info: SettingInfo) -> str:
    """Say in words what a setting wants: type, unit and range or choices."""
    limits = setting_range(info)
    if info.choices:
        return f"one of {limits}"
    words = info.type + (f" ({info.unit})" if info.unit else "")
    return f"{words}, {limits}" if limits else words


def setting_range(info: SettingInfo) -> str:
    """Write the limits or choices of a setting; empty where any value of the type goes."""
    if info.choices:
        return ", ".join(toml_value(choice) for choice in info.choices)
    if info.minimum is not None and info.maximum is not None:
        return f"{info.minimum} to {info.maximum}"
    if info.minimum is not None:
        return f"at least {info.minimum}"
    return f"at most {info.maximum}" if info.maximum is not None else ""
