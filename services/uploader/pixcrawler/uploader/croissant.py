"""`croissant.json`: the dataset for machines, in Croissant 1.1 (JSON-LD).

The first record set, `images`, has one record per kept image, from `images.parquet`; the second,
`image_files`, has the images themselves, from the archives.

`containedIn` stands in the `@context` as a term of Croissant: without it readers take it for
schema.org's, and a set of files in archives gives no records.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from pixcrawler.common.documents import DatasetFile
from pixcrawler.common.jobs import Job
from pixcrawler.uploader.images import Format
from pixcrawler.uploader.tables import image_columns

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"

_TERMS = (
    "annotation",
    "arrayShape",
    "citeAs",
    "column",
    "containedIn",
    "equivalentProperty",
    "excludes",
    "extract",
    "field",
    "fileObject",
    "fileProperty",
    "fileSet",
    "format",
    "includes",
    "isArray",
    "isLiveDataset",
    "jsonPath",
    "key",
    "md5",
    "parentField",
    "path",
    "readLines",
    "recordSet",
    "references",
    "regex",
    "repeated",
    "replace",
    "samplingRate",
    "separator",
    "source",
    "subField",
    "transform",
    "unArchive",
    "value",
)

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{term: f"cr:{term}" for term in _TERMS},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}

_ARCHIVE_TYPE: dict[Format, str] = {"zip": "application/zip", "webdataset": "application/x-tar"}
_PARQUET_TYPE = "application/x-parquet"
_IMAGES = "images.parquet"
_FILES = "archived-images"

_INTEGERS = frozenset(
    {"width", "height", "bytes", "original_width", "original_height", "original_bytes"}
)
_URLS = frozenset({"url", "license_url", "landing_url"})
_MEANING = {
    "file_name": "Path of the image within its archive",
    "url": "Where the image was found, before redirects",
    "source": "The search that gave it",
    "keyword": "What was searched for",
    "title": "Its title at the source",
    "creator": "Who made it",
    "license": "Its licence: an SPDX id where there is one",
    "license_url": "The licence's text",
    "landing_url": "The page about it at the source",
    "width": "Pixels",
    "height": "Pixels",
    "format": "The true format, from its content",
    "bytes": "Size of the file",
    "sha256": "Of the file, in hex",
    "phash": "Perceptual hash, 64 bits in hex",
    "original_width": "Of the file that was found, in pixels",
    "original_height": "Of the file that was found, in pixels",
    "original_format": "Of the file that was found, from its content",
    "original_bytes": "Size of the file that was found",
    "original_sha256": "Of the file that was found, in hex",
    "chunk_id": "The chunk, and so the archive, that holds it",
}


def croissant(
    job: Job,
    *,
    name: str,
    description: str,
    published: str,
    round_number: int,
    licenses: Sequence[str],
    extensions: Iterable[str],
    images: DatasetFile,
    archives: Sequence[DatasetFile],
) -> bytes:
    """The document.

    Args:
        job: What was asked for.
        name: The dataset's name.
        description: One or two sentences.
        published: When the round was closed, ISO 8601; empty if that is not known.
        round_number: The round; the dataset's version.
        licenses: URLs or SPDX ids of the images' licences.
        extensions: File extensions of the images.
        images: `images.parquet`.
        archives: The archives.
    """
    form = job.options.format
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": description,
        "conformsTo": CONFORMS_TO,
        "url": f"urn:uuid:{job.job_id}",
        "version": f"{round_number}.0.0",
        **({"datePublished": published} if published else {}),
        "license": list(licenses),
        "keywords": list(job.keywords),
        "creator": {"@type": "sc:Organization", "name": "PixCrawler"},
        "citeAs": "Please credit the creator of each image, as listed in LICENSES.csv.",
        "distribution": [
            _file_object(images, _PARQUET_TYPE),
            *(_file_object(archive, _ARCHIVE_TYPE[form]) for archive in archives),
            *([_file_set(form, sorted(extensions), archives)] if archives else []),
        ],
        "recordSet": [_image_records(image_columns(job)), *([_file_records()] if archives else [])],
    }
    return json.dumps(document, ensure_ascii=False, indent=2).encode() + b"\n"


def _file_object(file: DatasetFile, media_type: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.size} B",
        "encodingFormat": media_type,
        "sha256": file.sha256,
    }


def _file_set(
    form: Format, extensions: Sequence[str], archives: Sequence[DatasetFile]
) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": _FILES,
        "name": _FILES,
        "description": "The images in the archives",
        "containedIn": [{"@id": archive.path} for archive in archives],
        "encodingFormat": "image/*",
        "includes": "images/*" if form == "zip" else [f"*.{each}" for each in extensions],
    }


def _image_records(columns: Iterable[str]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "images",
        "name": "images",
        "description": "One record per image",
        "key": [{"@id": "images/chunk_id"}, {"@id": "images/file_name"}],
        "field": [_column(name) for name in columns],
    }


def _column(name: str) -> dict[str, Any]:
    kind = "sc:Integer" if name in _INTEGERS else "sc:URL" if name in _URLS else "sc:Text"
    return {
        "@type": "cr:Field",
        "@id": f"images/{name}",
        "name": name,
        "description": _MEANING[name],
        "dataType": kind,
        "source": {"fileObject": {"@id": _IMAGES}, "extract": {"column": name}},
    }


def _file_records() -> dict[str, Any]:
    def field(name: str, kind: str, description: str, file_property: str) -> dict[str, Any]:
        return {
            "@type": "cr:Field",
            "@id": f"image_files/{name}",
            "name": name,
            "description": description,
            "dataType": kind,
            "source": {"fileSet": {"@id": _FILES}, "extract": {"fileProperty": file_property}},
        }

    return {
        "@type": "cr:RecordSet",
        "@id": "image_files",
        "name": "image_files",
        "description": "The images themselves",
        "field": [
            field("file_name", "sc:Text", _MEANING["file_name"], "fullpath"),
            field("image", "sc:ImageObject", "The image", "content"),
        ],
    }
