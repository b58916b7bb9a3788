"""The zone rules of every process: those of the locked package `tzdata`, never the host's."""

import zoneinfo

import tzdata


def use_packaged_rules() -> None:
    """Makes `zoneinfo` read the package alone, also where PYTHONTZPATH or the system has files of its own."""
    zoneinfo.reset_tzpath(to=())
    zoneinfo.ZoneInfo.clear_cache()


def rules_version() -> str:
    """The release of the rules, as 2026a. Later releases compare greater as text."""
    return str(tzdata.IANA_VERSION)
