"""Licences as SPDX identifiers."""

import pytest

from pixcrawler.downloader import licenses
from pixcrawler.miniweb.licenses import COMMONS, OPENVERSE, License


@pytest.mark.parametrize("known", OPENVERSE, ids=lambda one: one.spdx)
def test_codes_of_openverse(known: License) -> None:
    """`license` and `license_version`."""
    assert licenses.from_code(known.code, known.version) == known.spdx


@pytest.mark.parametrize("known", COMMONS, ids=lambda one: one.spdx)
def test_short_names_of_commons(known: License) -> None:
    """`LicenseShortName` and `LicenseUrl`."""
    assert licenses.from_words(known.code, known.url) == known.spdx


@pytest.mark.parametrize(
    ("words", "url", "spdx"),
    [
        ("CC BY-SA 4.0", "", "CC-BY-SA-4.0"),
        ("CC-BY-SA-3.0", "", "CC-BY-SA-3.0"),
        ("CC BY 3.0 us", "", "CC-BY-3.0-US"),
        ("CC BY-SA 2.5 it", "", "CC BY-SA 2.5 it"),
        ("CC BY-SA 3.0 igo", "", "CC-BY-SA-3.0-IGO"),
        ("Public domain", "https://creativecommons.org/publicdomain/mark/1.0/", "CC-PDM-1.0"),
        ("something", "http://creativecommons.org/licenses/by-nd/2.0/", "CC-BY-ND-2.0"),
        ("CC0", "", "CC0-1.0"),
        ("GFDL 1.2", "", "GFDL-1.2-only"),
        ("No restrictions", "", "No restrictions"),
        (" Copyrighted free use ", "", "Copyrighted free use"),
        ("", "", ""),
    ],
)
def test_other_words(words: str, url: str, spdx: str) -> None:
    """What has no identifier keeps its words; versions for a country only where SPDX has them."""
    assert licenses.from_words(words, url) == spdx


def test_a_licence_without_identifier_keeps_openverses_words() -> None:
    """Sampling Plus is in Openverse, not in SPDX's list."""
    assert licenses.from_code("sampling+", "1.0") == "sampling+ 1.0"
    assert licenses.from_code("", "") == ""
