"""Licences as SPDX identifiers (https://spdx.org/licenses/), where there is one.

Searches name licences in words of their own; what has no identifier keeps those words.
"""

import re

_KINDS = frozenset({"by", "by-sa", "by-nd", "by-nc", "by-nc-sa", "by-nc-nd"})
_VERSIONS = frozenset({"1.0", "2.0", "2.5", "3.0", "4.0"})
_PORTS = frozenset(
    {
        ("by", "2.5", "au"),
        *(("by", "3.0", port) for port in ("at", "au", "de", "igo", "nl", "us")),
        ("by-nc", "3.0", "de"),
        ("by-nc-nd", "3.0", "de"),
        ("by-nc-nd", "3.0", "igo"),
        *(("by-nc-sa", "2.0", port) for port in ("de", "fr", "uk")),
        ("by-nc-sa", "3.0", "de"),
        ("by-nc-sa", "3.0", "igo"),
        ("by-nd", "3.0", "de"),
        ("by-sa", "2.0", "uk"),
        ("by-sa", "2.1", "jp"),
        *(("by-sa", "3.0", port) for port in ("at", "de", "igo")),
    }
)
"""The versions for one country that the SPDX list names, as of 3.27."""

_OTHERS = {
    "cc0": "CC0-1.0",
    "cc0 1.0": "CC0-1.0",
    "cc-zero": "CC0-1.0",
    "pdm": "CC-PDM-1.0",
    "pdm 1.0": "CC-PDM-1.0",
    "cc sa 1.0": "CC-SA-1.0",
    "fal": "LAL-1.3",
    "fal 1.3": "LAL-1.3",
    "gfdl 1.1": "GFDL-1.1-only",
    "gfdl 1.2": "GFDL-1.2-only",
    "gfdl 1.3": "GFDL-1.3-only",
    "mit": "MIT",
    "apache license 2.0": "Apache-2.0",
    "gpl": "GPL-1.0-or-later",
    "gplv2": "GPL-2.0-only",
    "gplv2+": "GPL-2.0-or-later",
    "gplv3": "GPL-3.0-only",
    "gplv3+": "GPL-3.0-or-later",
    "agpl": "AGPL-3.0-only",
    "ogl 1.0": "OGL-UK-1.0",
    "ogl 2": "OGL-UK-2.0",
    "ogl 3": "OGL-UK-3.0",
}

_SHORT = re.compile(
    r"cc[ -](?P<kind>by(?:-(?:nc|nd|sa))*)[ -](?P<version>\d\.\d)(?:[ -](?P<port>[a-z]+))?"
)
_URL = re.compile(
    r"https?://(?:www\.)?creativecommons\.org/"
    r"(?:licenses/(?P<kind>[a-z-]+)|publicdomain/(?P<tool>zero|mark))"
    r"/(?P<version>\d\.\d)(?:/(?P<port>[a-z]{2,3})(?![a-z]))?",
)
_TOOLS = {"zero": "CC0-1.0", "mark": "CC-PDM-1.0"}


def creative_commons(kind: str, version: str, port: str = "") -> str:
    """The identifier of a Creative Commons licence such as `by-sa`, `3.0`, `de`; empty if none."""
    kind = {"by-nd-nc": "by-nc-nd"}.get(kind, kind)
    if port:
        known = (kind, version, port) in _PORTS
        return f"CC-{kind.upper()}-{version}-{port.upper()}" if known else ""
    known = kind in _KINDS and version in _VERSIONS
    return f"CC-{kind.upper()}-{version}" if known else ""


def from_url(url: str) -> str:
    """The identifier of the licence at a URL of creativecommons.org; empty for all others."""
    match = _URL.match(url.strip().lower())
    if match is None:
        return ""
    if match["tool"]:
        return _TOOLS[match["tool"]]
    port = match["port"] or ""
    return creative_commons(match["kind"], match["version"], "" if port == "deed" else port)


def from_code(code: str, version: str) -> str:
    """The identifier for Openverse's `license` and `license_version`, else these words."""
    words = f"{code} {version}".strip()
    return creative_commons(code, version) or _OTHERS.get(words.lower(), words)


def from_words(words: str, url: str = "") -> str:
    """The identifier for a short name such as `CC BY-SA 4.0` or its URL, else the short name."""
    plain = " ".join(words.lower().split())
    match = _SHORT.fullmatch(plain)
    found = creative_commons(*match.groups(default="")) if match else _OTHERS.get(plain, "")
    return found or from_url(url) or words.strip()
