"""Answers that a client may have already: `ETag`, `If-None-Match`, 304 (RFC 9110, 13.1.2)."""

import hashlib
from typing import Annotated, Any, Final

from fastapi import Header
from fastapi.responses import Response

from pixcrawler.common.events import Value

NOT_MODIFIED = 304
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    304: {
        "description": "Nothing has changed since the answer with this `ETag`.",
        "headers": {"ETag": {"$ref": "#/components/headers/ETag"}},
    }
}
"""What a route whose answer has a tag says of itself, beside the answer."""

Known = Annotated[
    str,
    Header(
        alias="If-None-Match",
        description="The `ETag` of the last answer: 304, without a body, if nothing has changed.",
        examples=['"6b1f0c5f0d0c4f6f9f3f8a2f5b7c0e6c"'],
    ),
]

_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Authorization, X-API-Key"}
"""Only for whoever has the key, and never without asking."""


def answer(known: str, view: Value) -> Response:
    """A view as JSON with its tag; without its content if the client has it (`If-None-Match`)."""
    content = view.model_dump_json().encode()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": tag}
    if matches([known], tag):
        return Response(status_code=NOT_MODIFIED, headers=headers)
    return Response(content, headers=headers, media_type="application/json")


def matches(asked: list[str], tag: str) -> bool:
    """Whether `If-None-Match` names this tag; weak ones count like strong ones."""
    known = [each.strip().removeprefix("W/") for line in asked for each in line.split(",")]
    return tag in known or "*" in known
