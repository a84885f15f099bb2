"""API keys: `pxc_<key id>_<secret>`.

The id is public and names the key in lists; of the secret only the sha256 is stored (it has 192
random bits, so a slow hash would protect nothing). A key belongs to an owner, who sees only what is
their own.
"""

import hashlib
import hmac
import re
import secrets
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.common import audit
from pixcrawler.common.db.tables import api_keys
from pixcrawler.common.events import Value

PREFIX = "pxc"
_KEY = re.compile(rf"{PREFIX}_(?P<id>[0-9a-f]{{12}})_(?P<secret>[0-9a-f]{{48}})")
_USED_EVERY = "1 minute"  # so that reading does not mean writing each time


class Scope(StrEnum):
    """What a key may do; each includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def allows(self, needed: "Scope") -> bool:
        """Whether it includes what is needed."""
        order = list(Scope)
        return order.index(self) >= order.index(needed)


class ApiKey(Value):
    """A key without its secret."""

    key_id: str
    owner: str
    scope: Scope
    created_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    name: str = ""
    requests_per_minute: int | None = None
    active_jobs: int | None = None
    images_per_day: int | None = None


class KeyLimits(NamedTuple):
    """What a key may do at most, instead of what the api's settings say; 0 is without limit."""

    requests_per_minute: int | None = None
    active_jobs: int | None = None
    images_per_day: int | None = None


DEFAULT_LIMITS = KeyLimits()


class CreatedKey(NamedTuple):
    """A new key: `text` is what its owner sends, and is shown this once."""

    text: str
    key: ApiKey


async def create(
    connection: AsyncConnection,
    owner: str,
    scope: str,
    *,
    name: str = "",
    limits: KeyLimits = DEFAULT_LIMITS,
    reason: str = "",
) -> CreatedKey:
    """Make a key, in the caller's transaction; the audit log says so.

    Args:
        connection: Of a role that may write `api_keys` and `audit_log`.
        owner: Whose it is, not empty.
        scope: `read`, `write` or `admin`.
        name: What it is for, to people.
        limits: Its own.
        reason: Why, for the audit log.

    Raises:
        ValueError: the owner is empty, the scope is unknown, or a limit is negative.
    """
    if not owner.strip():
        raise ValueError("owner must not be empty")
    if any(limit is not None and limit < 0 for limit in limits):
        raise ValueError("a limit must not be negative; 0 is without limit")
    key_id, secret = secrets.token_hex(6), secrets.token_hex(24)
    made = await connection.execute(
        insert(api_keys)
        .values(
            key_id=key_id,
            owner=owner,
            scope=Scope(scope).value,
            secret_sha256=_digest(secret),
            name=name,
            **limits._asdict(),
        )
        .returning(api_keys)
    )
    own = {name: limit for name, limit in limits._asdict().items() if limit is not None}
    await audit.write(
        connection,
        audit.Actor(reason=reason),
        "key.create",
        key_id,
        {"scope": Scope(scope).value, "name": name, **own},
        owner=owner,
    )
    return CreatedKey(
        f"{PREFIX}_{key_id}_{secret}", ApiKey.model_validate(dict(made.mappings().one()))
    )


async def verify(connection: AsyncConnection, key: str) -> ApiKey | None:
    """The key that this text is; None if there is none such, or it is revoked."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    found = await connection.execute(select(api_keys).where(api_keys.c.key_id == match["id"]))
    row = found.mappings().one_or_none()
    if row is None or not hmac.compare_digest(row["secret_sha256"], _digest(match["secret"])):
        return None
    return None if row["revoked_at"] is not None else ApiKey.model_validate(dict(row))


async def mark_used(connection: AsyncConnection, key_id: str) -> None:
    """Remember that a key was used just now, to the minute."""
    await connection.execute(
        update(api_keys)
        .where(
            api_keys.c.key_id == key_id,
            func.coalesce(api_keys.c.last_used_at, text("'-infinity'::timestamptz"))
            < func.now() - text(f"interval '{_USED_EVERY}'"),
        )
        .values(last_used_at=func.now())
    )


async def list_keys(connection: AsyncConnection, owner: str | None = None) -> list[ApiKey]:
    """The keys, revoked ones too, the oldest first.

    Args:
        connection: To read with.
        owner: Only this one's.
    """
    query = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.key_id)
    if owner is not None:
        query = query.where(api_keys.c.owner == owner)
    found = await connection.execute(query)
    return [ApiKey.model_validate(dict(row)) for row in found.mappings()]


async def revoke(connection: AsyncConnection, key_id: str, *, reason: str = "") -> bool:
    """End a key, from now on; False if there is none such. Again and again does no harm.

    Args:
        connection: As for `create`.
        key_id: Which.
        reason: Why, for the audit log.
    """
    ended = await connection.execute(
        update(api_keys)
        .where(api_keys.c.key_id == key_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(api_keys.c.owner)
    )
    if owners := list(ended.scalars()):
        actor = audit.Actor(reason=reason)
        await audit.write(connection, actor, "key.revoke", key_id, owner=owners[0])
        return True
    known = await connection.scalar(select(api_keys.c.key_id).where(api_keys.c.key_id == key_id))
    return known is not None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
