"""What became of webhooks, and what signs them."""

from datetime import datetime, timedelta

from fastapi import APIRouter, Response

from pixcrawler.api import cursors, deliveries, examples, webhooks
from pixcrawler.api.auth import Acting, Reader, Writer
from pixcrawler.api.deliveries import Delivery, Secret
from pixcrawler.api.idempotency import Once, digest
from pixcrawler.api.openapi import answers
from pixcrawler.api.parts import PartsOf
from pixcrawler.api.routes.paths import Cursor, IdempotencyKey, JobId, Limit, found_job
from pixcrawler.api.views import Page
from pixcrawler.common import audit
from pixcrawler.common.db import locks
from pixcrawler.common.db.engine import transaction
from pixcrawler.common.events import Value

router = APIRouter(prefix="/v1", tags=["webhooks"])


class SecretView(Value):
    """What signs your webhooks (https://www.standardwebhooks.com).

    Attributes:
        secret: `whsec_` and base64 of the key.
        created_at: When it was made.
        previous_until: Until then the secret before this one signs as well.
    """

    secret: str
    created_at: datetime
    previous_until: datetime | None


_SECRET = SecretView(
    secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=",  # noqa: S106 - an example
    created_at=examples.AT,
    previous_until=None,
)


@router.get(
    "/jobs/{job_id}/webhook-deliveries",
    summary="List a job's webhooks",
    responses=answers(200, "Deliveries, the first round first.", examples.DELIVERIES),
)
async def list_webhook_deliveries(
    *,
    parts: PartsOf,
    caller: Reader,
    job_id: JobId,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Delivery]:
    """What became of a job's webhooks: one for the end of each round, the first round first."""
    await found_job(parts, caller, job_id)
    after = int(cursors.load(cursor, int)[0]) if cursor else 0
    async with parts.engine.connect() as connection:
        found = await deliveries.of_job(connection, job_id, after=after, limit=limit + 1)
    more = cursors.dump(found[limit - 1].round) if len(found) > limit else None
    return Page(items=tuple(found[:limit]), next_cursor=more)


@router.get(
    "/webhook-secret",
    summary="Get the webhook secret",
    responses=answers(200, "What signs your webhooks.", _SECRET),
)
async def get_webhook_secret(parts: PartsOf, caller: Writer, response: Response) -> SecretView:
    """The secret that signs the webhooks of all your jobs; the same until you change it."""
    async with transaction(parts.engine, "secret") as connection:
        return _view(await deliveries.secret(connection, caller.owner), response)


@router.post(
    "/webhook-secret",
    summary="Change the webhook secret",
    responses=answers(
        200,
        "The new one.",
        _SECRET.model_copy(update={"previous_until": examples.AT + timedelta(days=1)}),
    ),
)
async def change_webhook_secret(
    parts: PartsOf, caller: Acting, response: Response, idempotency_key: IdempotencyKey = None
) -> SecretView:
    """Change the secret; for a day the one before signs as well, so that nothing gets lost."""
    once = Once(caller.owner, idempotency_key, digest("change webhook secret"))
    async with transaction(parts.engine, "change_secret") as connection:
        await locks.owner_lock(connection, caller.owner)
        if await once.said(connection):  # no other table keeps a secret: it is the one that holds
            return _view(await deliveries.secret(connection, caller.owner), response)
        changed = await deliveries.change_secret(connection, caller.owner)
        await audit.write(connection, caller.actor, "webhook_secret.change", caller.owner)
        await once.keep(connection, None)
    return _view(changed, response)


def _view(secret: Secret, response: Response) -> SecretView:
    response.headers["Cache-Control"] = "no-store"
    return SecretView(
        secret=webhooks.shown(secret.secret),
        created_at=secret.created_at,
        previous_until=secret.previous_until,
    )
