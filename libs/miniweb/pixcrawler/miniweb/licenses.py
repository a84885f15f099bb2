"""Licences as the two services write them, and as our metadata must write them (SPDX 3.27)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class License:
    """`spdx` and `url`: what belongs into our metadata; the rest: what the service says."""

    spdx: str
    url: str
    code: str
    version: str = ""


_CC = "https://creativecommons.org/licenses"
_PUBLIC = "https://creativecommons.org/publicdomain"

OPENVERSE = (
    License("CC-BY-2.0", f"{_CC}/by/2.0/", "by", "2.0"),
    License("CC-BY-4.0", f"{_CC}/by/4.0/", "by", "4.0"),
    License("CC-BY-SA-4.0", f"{_CC}/by-sa/4.0/", "by-sa", "4.0"),
    License("CC-BY-SA-2.0", f"{_CC}/by-sa/2.0/", "by-sa", "2.0"),
    License("CC-BY-ND-2.0", f"{_CC}/by-nd/2.0/", "by-nd", "2.0"),
    License("CC-BY-NC-2.0", f"{_CC}/by-nc/2.0/", "by-nc", "2.0"),
    License("CC-BY-NC-SA-2.0", f"{_CC}/by-nc-sa/2.0/", "by-nc-sa", "2.0"),
    License("CC-BY-NC-ND-4.0", f"{_CC}/by-nc-nd/4.0/", "by-nc-nd", "4.0"),
    License("CC0-1.0", f"{_PUBLIC}/zero/1.0/", "cc0", "1.0"),
    License("CC-PDM-1.0", f"{_PUBLIC}/mark/1.0/", "pdm", "1.0"),
)
"""`code` and `version` are the API's `license` and `license_version`."""

COMMONS = (
    License("CC-BY-SA-4.0", f"{_CC}/by-sa/4.0", "CC BY-SA 4.0"),
    License("CC-BY-SA-3.0", f"{_CC}/by-sa/3.0", "CC BY-SA 3.0"),
    License("CC-BY-SA-2.5", f"{_CC}/by-sa/2.5", "CC BY-SA 2.5"),
    License("CC-BY-SA-3.0-DE", f"{_CC}/by-sa/3.0/de/deed.en", "CC BY-SA 3.0 de"),
    License("CC-BY-4.0", f"{_CC}/by/4.0", "CC BY 4.0"),
    License("CC-BY-2.0", f"{_CC}/by/2.0", "CC BY 2.0"),
    License("CC0-1.0", "http://creativecommons.org/publicdomain/zero/1.0/deed.en", "CC0"),
    License("Public domain", "", "Public domain"),
    License("Attribution", "", "Attribution"),
)
"""`code` is the `LicenseShortName`; without an SPDX identifier it stays as it is."""
