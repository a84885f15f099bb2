"""Lists of URLs as they are uploaded: every format, every kind of bad row, every bad file."""

import gzip
import io
import json
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pixcrawler.api.lists import files
from pixcrawler.api.lists.files import Refused
from pixcrawler.api.lists.reading import FIRST_REJECTED, MAX_TEXT, MAX_URL
from pixcrawler.common.url_lists import ListedRow
from tests.unit.api.listing import take

A, B, C = "http://a/1.jpg", "https://b/2.jpg", "HTTP://c/3"

FULL = ListedRow(A, "a red panda", "Ann", "CC BY 4.0", "http://cc/by", "http://a/page")
PLAIN = ListedRow(B)


def gzipped(data: bytes) -> bytes:
    """The same bytes each time: they are in the names of tests, which all workers must agree on."""
    return gzip.compress(data, mtime=0)


def csv_of(*rows: tuple[str, ...], separator: str = ",") -> bytes:
    return "".join(separator.join(row) + "\n" for row in rows).encode()


def jsonl_of(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet_of(columns: dict[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, **options)
    return sink.getvalue()


NAMES = ("Image URL", "CAPTION", "author", "license", "license_url", "foreign_landing_url")
ROWS = (NAMES, tuple(FULL), tuple(PLAIN))
TABLE = {name: [FULL[i], PLAIN[i] or None] for i, name in enumerate(NAMES)}

FILES = [
    ("list.csv", csv_of(*ROWS)),
    ("list.csv", csv_of(*ROWS).replace(b"\n", b"\r\n")),
    ("list.csv", b"\xef\xbb\xbf" + csv_of(*ROWS)),
    ("list.csv", csv_of(*ROWS, separator=";")),
    ("list.tsv", csv_of(*ROWS, separator="\t")),
    ("", csv_of(*ROWS)),
    ("", csv_of(*ROWS, separator="\t")),
    ("list.jsonl", jsonl_of(dict(zip(NAMES, FULL, strict=True)), {"url": B})),
    ("", jsonl_of(dict(zip(NAMES, FULL, strict=True)), B)),
    ("list.parquet", parquet_of(TABLE)),
    ("", parquet_of(TABLE, compression="zstd", use_dictionary=True, row_group_size=1)),
    (
        "list.parquet",
        parquet_of(
            {
                k: pa.array(v, pa.large_binary())
                for k, v in ((k, [x and x.encode() for x in v]) for k, v in TABLE.items())
            }
        ),
    ),
]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize(("name", "data"), FILES)
def test_every_format(name: str, data: bytes, packed: bool) -> None:
    """Columns are found by their names, captions, creators and licences come along; also packed."""
    if packed:
        name, data = name and f"{name}.gz", gzip.compress(data)
    taken = take(data, name)
    assert taken.rows == [FULL, PLAIN]
    assert (taken.answer.rows, taken.answer.rejected, taken.answer.repeated) == (2, 0, 0)
    assert taken.answer.columns["url"] in {"Image URL", "url"}


@pytest.mark.parametrize("name", ["list.txt", "list", "urls.lst", ""])
def test_text(name: str) -> None:
    """One URL a line; blanks, comments, other ends of lines and a last line without one."""
    for end in ("\n", "\r\n", "\r"):
        data = end.join(["\ufeff# mine", A, "", f"  {B} ", "#", C]).encode()
        assert take(data, name).urls == [A, B, C]


def test_tables_without_names() -> None:
    """The first URL is it, and what stands beside it is the caption, on either side."""
    captions = [ListedRow(A, "a cat"), ListedRow(B, "a dog")]
    assert take(csv_of((A, "a cat"), (B, "a dog")), "x.csv").rows == captions
    assert take(csv_of(("a cat", A), ("a dog", B), separator="\t"), "x.tsv").rows == captions
    taken = take(csv_of(("1", A, "a cat"), ("2", B, "a dog")), "x.csv", {"title": "3"})
    assert (taken.rows, taken.answer.columns) == (captions, {"url": "2", "title": "3"})


def test_columns_that_are_named() -> None:
    """What the caller says comes first; other columns do not matter."""
    data = csv_of(("url", "thumb", "title", "words"), (A, B, "no", "yes"))
    taken = take(data, "x.csv", {"url": "thumb", "title": "WORDS"})
    assert taken.rows == [ListedRow(B, "yes")]
    assert taken.answer.columns == {"url": "thumb", "title": "words"}
    assert take(jsonl_of({"u": A, "t": "yes"}), "x.jsonl", {"url": "u", "title": "t"}).rows == [
        ListedRow(A, "yes")
    ]


def test_quotes() -> None:
    """Separators, quotes and ends of lines within quotes belong to the text."""
    data = b'url,caption\nhttp://a/1,"one, ""two""\nthree"\n"http://a/2",\n'
    assert take(data, "x.csv").rows == [
        ListedRow("http://a/1", 'one, "two"\nthree'),
        ListedRow("http://a/2"),
    ]
    tsv = b'caption\turl\na 5" nail\thttp://a/1\n"a ""b"""\thttp://a/2\n'
    assert take(tsv, "x.tsv").rows == [
        ListedRow("http://a/1", 'a 5" nail'),
        ListedRow("http://a/2", 'a "b"'),
    ]


@pytest.mark.parametrize(
    ("name", "bad", "reason"),
    [
        ("x.txt", b"ftp://a/1", "not an http or https URL"),
        ("x.txt", b"http:///nowhere", "not an http or https URL"),
        ("x.txt", b"http://a/" + b"x" * MAX_URL, f"the URL has more than {MAX_URL} characters"),
        ("x.txt", b"http://a/\x07", "a control character in the URL"),
        ("x.txt", b"http://a/\0", "a NUL character"),
        ("x.txt", b"http://a/\xff", "bad UTF-8"),
        ("x.txt", b"http://a/" + b"x" * files.MAX_LINE, "the line has more than 262144 bytes"),
        ("x.csv", b",a caption", "no URL"),
        ("x.csv", b"http://a/1", "1 instead of 2 columns"),
        ("x.csv", b"http://a/1,b,c", "3 instead of 2 columns"),
        ("x.csv", b'http://a/1,"never closed', "a quote is never closed"),
        ("x.csv", b'http://a/1,"a"b', "',' expected after '\"'"),
        (
            "x.csv",
            b"http://a/1," + b"x" * (MAX_TEXT + 1),
            f"title has more than {MAX_TEXT} characters",
        ),
        ("x.tsv", b"http://a/1", "1 instead of 2 columns"),
        ("x.jsonl", b'{"url": "http://a/1"', "invalid JSON: Expecting ',' delimiter"),
        ("x.jsonl", b"[" * 100_000, "invalid JSON"),
        ("x.jsonl", b'["http://a/1"]', "no JSON object"),
        ("x.jsonl", b"17", "no JSON object"),
        ("x.jsonl", b'{"caption": "x"}', "no URL"),
        ("x.jsonl", b'{"url": null}', "no URL"),
        ("x.jsonl", b'{"url": ["http://a/1"]}', "url is no text"),
        ("x.jsonl", b'{"url": "http://a/1", "caption": {}}', "title is no text"),
        ("x.jsonl", b'{"url": "http://a/1", "caption": "\\u0000"}', "a NUL character in title"),
        ("x.jsonl", b'{"url": "http://a/\\ud800"}', "half a character (a lone surrogate)"),
        ("x.jsonl", b'{"url": "http://a/\xff"}', "bad UTF-8"),
    ],
)
def test_a_bad_row_is_told_and_stops_nothing(name: str, bad: bytes, reason: str) -> None:
    """It is named by its line, with a reason, and what is before and behind it is taken."""
    good = {
        "x.txt": (A, B),
        "x.csv": (f"url,caption\n{A},one", f"{B},two"),
        "x.tsv": (f"url\tcaption\n{A}\tone", f"{B}\ttwo"),
        "x.jsonl": (json.dumps({"url": A}), json.dumps({"url": B})),
    }[name]
    first = good[0].encode()
    taken = take(b"\n".join([first, bad, good[1].encode(), b""]), name)
    assert taken.urls == [A, B]
    assert [(row.line, row.reason) for row in taken.rejected] == [(first.count(b"\n") + 2, reason)]
    assert taken.answer.rejected_rows == tuple(taken.rejected)
    assert len(taken.rejected[0].text) <= 200


def test_bad_rows_of_parquet() -> None:
    """Rows are counted from 1; what is no UTF-8 spoils its row only."""
    urls = [A.encode(), None, b"http://a/\xff", b"ftp://a", B.encode()]
    for kind in (pa.binary(), pa.string()):
        array = pa.Array.from_buffers(kind, 5, pa.array(urls, pa.binary()).buffers())
        taken = take(parquet_of({"url": array}), "x.parquet")
        assert taken.urls == [A, B]
        assert [(row.line, row.reason) for row in taken.rejected] == [
            (2, "no URL"),
            (3, "bad UTF-8"),
            (4, "not an http or https URL"),
        ]


def test_only_the_first_bad_rows_are_in_the_answer() -> None:
    """All of them are kept."""
    taken = take(b"nope\n" * 1234 + A.encode(), "x.txt")
    assert (taken.answer.rejected, len(taken.rejected)) == (1234, 1234)
    assert len(taken.answer.rejected_rows) == FIRST_REJECTED
    assert taken.rejected[-1].line == 1234


PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("x.csv", b"", "x.csv is empty"),
        ("x.txt", b" \n\n", "x.txt is empty"),
        ("x.txt.gz", gzipped(b""), "x.txt.gz is empty"),
        ("x.csv", PNG, "x.csv is no list of URLs but a PNG image"),
        ("x.csv.gz", gzipped(PNG), "x.csv.gz is no list of URLs but a PNG image"),
        ("x.txt", bytes(range(256)) * 9, "x.txt is no text"),
        ("", b"<!doctype html>", "the file is a page or XML, no list of URLs"),
        ("x.txt", "http://a".encode("utf-16"), "x.txt is no list of URLs but text in UTF-16"),
        ("x.json", b'[{"url": "http://a"}]', "x.json is a JSON array"),
        ("x.parquet", csv_of(*ROWS), "x.parquet is no Parquet file"),
        ("x.parquet", parquet_of(TABLE)[:-9], "x.parquet is a damaged Parquet file"),
        ("x.parquet", parquet_of(TABLE)[:500] + PNG + b"PAR1", "x.parquet is a damaged Parquet"),
        ("x.csv", parquet_of(TABLE), "x.csv is a Parquet file, not csv"),
        ("x.gz", gzipped(A.encode())[:-5], "x.gz is a gzip file that was cut off"),
        ("x.gz", b"\x1f\x8b" + PNG, "x.gz is a damaged gzip file"),
        ("x.gz", gzipped(A.encode()) + b"more", "x.gz is a damaged gzip file"),
        ("x.gz", gzipped(gzipped(A.encode())), "x.gz is packed twice"),
        (
            "x.csv",
            b"a,b\n1,2\n",
            "x.csv has no column that is known to hold URLs (there are: a, b)",
        ),
        ("x.csv", b"\xff,url\nhttp://a,1", "x.csv: its first line cannot be read (bad UTF-8)"),
        ("x.txt", b"one\ntwo\n", "x.txt holds no URL: line 1 has not an http or https URL"),
        ("x.csv", b"url\n", "x.csv holds no URL"),
        (
            "x.parquet",
            parquet_of({"url": [[A]]}),
            "x.parquet: the column 'url' holds no text but list",
        ),
    ],
)
def test_a_file_that_is_nothing_of_the_kind(name: str, data: bytes, sentence: str) -> None:
    """One clear sentence."""
    with pytest.raises(Refused) as caught:
        take(data, name)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("data", "columns", "sentence"),
    [
        (csv_of(*ROWS), {"url": "nope"}, "x has no column 'nope'; there are: Image URL, CAPTION"),
        (parquet_of(TABLE), {"title": "nope"}, "x has no column 'nope'"),
        (jsonl_of({"url": A}), {"title": "nope"}, "x has no 'nope' in any row"),
        (A.encode(), {"url": "1"}, "x is text with one URL a line: it has no columns"),
    ],
)
def test_a_column_that_is_not_there(data: bytes, columns: dict[str, str], sentence: str) -> None:
    """Whoever names a column wants it."""
    with pytest.raises(Refused) as caught:
        take(data, "x", columns)
    assert str(caught.value).startswith(sentence)


def test_bombs() -> None:
    """What is unpacked is bounded, in bytes and in rows, whatever the format."""
    with pytest.raises(Refused, match="more than 1000000 bytes when it is unpacked"):
        take(gzip.compress(bytes(b"x" * 99 + b"\n") * 20_000), "x.gz", max_unpacked=1_000_000)
    wide = {"url": [A] * 50_000, "title": ["x" * 10_000] * 50_000}
    with pytest.raises(Refused, match="more than 1000000 bytes when it is unpacked"):
        take(parquet_of(wide), "x.parquet", max_unpacked=1_000_000)
    with pytest.raises(Refused, match="more than 10 rows"):
        take(b"http://a/1\n" * 11, "x.txt", max_rows=10)
    with pytest.raises(Refused, match="more than 10 rows"):
        take(b"nope\n" * 11, "x.txt", max_rows=10)


def test_repetitions_are_marked() -> None:
    """By a bit for each row, in every block; the first of a URL counts."""
    urls = [f"http://a/{number % 700}" for number in range(1300)]
    taken = take("\n".join(urls).encode(), "x.txt")
    assert (taken.answer.rows, taken.answer.repeated) == (1300, 600)
    assert len(taken.marks) == 4 * 72
    marks = [
        taken.marks[72 * block + 8 + place // 8] >> place % 8 & 1
        for block in range(3)
        for place in range(500)
    ]
    assert marks[:1300] == [0] * 700 + [1] * 600


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30).map(str.strip)
rows = st.lists(
    st.builds(
        ListedRow,
        url=st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=20).map(
            lambda text: f"http://a/{text}".strip()
        ),
        title=texts,
        creator=texts,
        license=texts,
        license_url=texts,
        landing_url=texts,
    ),
    min_size=1,
    max_size=20,
)
quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@example([ListedRow("http://a/", "one\r\ntwo")])
@given(rows)
def test_csv_gives_what_was_written(made: list[ListedRow]) -> None:
    """Whatever stands in a field, quoted as the standard library does it; ends of lines become
    line feeds, since a file is read by its lines."""
    import csv

    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
        [ListedRow._fields, *made]
    )
    taken = take(text.getvalue().encode(), "x.csv")
    read = [ListedRow(*(each.replace("\r\n", "\n") for each in row)) for row in made]
    assert (taken.rows, taken.rejected) == (read, [])


@quick
@given(rows)
def test_json_lines_give_what_was_written(made: list[ListedRow]) -> None:
    """Escaped or not."""
    for ascii_only in (False, True):
        lines = (json.dumps(row._asdict(), ensure_ascii=ascii_only) for row in made)
        taken = take("\n".join(lines).encode(), "x.jsonl")
        assert (taken.rows, taken.rejected) == (made, [])


@settings(quick, max_examples=30)
@given(rows)
def test_parquet_gives_what_was_written(made: list[ListedRow]) -> None:
    """Column by column."""
    columns = {name: [row[i] for row in made] for i, name in enumerate(ListedRow._fields)}
    taken = take(parquet_of(columns), "x.parquet")
    assert (taken.rows, taken.rejected) == (made, [])


@quick
@given(st.binary(max_size=400), st.sampled_from(["x.txt", "x.csv", "x.tsv", "x.jsonl", "", "x.gz"]))
def test_nothing_that_is_uploaded_is_a_bug(data: bytes, name: str) -> None:
    """Any bytes are a list, or are refused; every row is either taken or told."""
    for content in (data, data + b"\nhttp://a/1\n"):
        try:
            taken = take(content, name)
        except Refused:
            continue
        assert taken.answer.rows == len(taken.rows) > 0
        assert taken.answer.rejected == len(taken.rejected)


@quick
@given(st.data())
def test_where_the_pieces_end_does_not_matter(data: st.DataObject) -> None:
    """Lines are the same however the bytes come in."""
    content = data.draw(st.text("ab\r\n", max_size=60)).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(content)), max_size=8)))
    ends = [0, *cuts, len(content)]
    pieces = [content[a:b] for a, b in pairwise(ends)]

    def read(given: list[bytes]) -> list[files.Line]:
        return list(files.lines(files.File("x", "txt", content, iter(given))))

    assert read(pieces) == read([content])
