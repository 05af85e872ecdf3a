"""``/v1/webhooks``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from app.access.caller import opens
from app.database.tables import WebhookDelivery
from app.dependencies import DatabaseDep, SettingsDep
from app.pages import Cursor, Limit, Page, cut_page
from app.problems import problem_responses
from app.webhooks import deliveries, endpoints, secrets, tenant_secret
from app.webhooks.schemas import (
    DeliveryOut,
    DeliveryStatus,
    NewSecret,
    NewWebhook,
    SecretOut,
    WebhookChange,
    WebhookIn,
    WebhookOut,
)

router = APIRouter(
    prefix="/v1/webhooks", tags=["webhooks"], dependencies=[Depends(opens("webhooks"))]
)


@router.post("", status_code=201, responses=problem_responses(401, 403, 409, 413))
def create_webhook(
    wanted: WebhookIn, response: Response, database: DatabaseDep, settings: SettingsDep
) -> NewWebhook:
    """Have a server told of events; the secret that signs them is shown this once."""
    with database.write() as session:
        endpoint, secret = endpoints.create(session, settings, database.tenant, wanted)
        shown = WebhookOut.model_validate(endpoint)
    response.headers["Location"] = f"/v1/webhooks/{shown.id}"
    _keep_nowhere(response)
    return NewWebhook(**shown.model_dump(), secret=secret)


@router.get("", responses=problem_responses(401, 403))
def list_webhooks(
    database: DatabaseDep, cursor: Cursor = None, limit: Limit = 50
) -> Page[WebhookOut]:
    """Endpoints, newest first, disabled ones too."""
    with database.read() as session:
        rows = endpoints.page(session, cursor, limit)
    items, following = cut_page(rows, limit, lambda row: row.id)
    return Page(items=[WebhookOut.model_validate(row) for row in items], next_cursor=following)


# Before the routes of one endpoint, whose id could have any of these names.


@router.post("/secret", status_code=201, responses=problem_responses(401, 403))
def renew_tenant_secret(
    response: Response, database: DatabaseDep, settings: SettingsDep
) -> NewSecret:
    """Make the secret that signs messages to attributions' own ``webhook_url``, or a new one.

    It is shown this once.  The one before signs too for another day.
    """
    with database.write() as session:
        row, secret = tenant_secret.renew(session, settings, database.tenant)
        shown = NewSecret(previous_until=row.previous_until, secret=secret)
    _keep_nowhere(response)
    return shown


@router.get("/secret", responses=problem_responses(401, 403, 404))
def get_tenant_secret(database: DatabaseDep) -> SecretOut:
    """Whether there is a secret for attributions' own ``webhook_url``."""
    with database.read() as session:
        return SecretOut.model_validate(tenant_secret.find(session))


@router.get("/deliveries", responses=problem_responses(401, 403))
def list_deliveries(
    database: DatabaseDep,
    subject: Annotated[
        str | None, Query(max_length=200, description="An attribution's or index's id")
    ] = None,
    status: DeliveryStatus | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[DeliveryOut]:
    """Messages to every endpoint and to attributions' own URLs, newest first."""
    with database.read() as session:
        rows = deliveries.page(session, cursor, limit, subject_id=subject, status=status)
    return _page_of_deliveries(rows, limit)


@router.get("/deliveries/{delivery}", responses=problem_responses(401, 403, 404))
def get_delivery(delivery: str, database: DatabaseDep) -> DeliveryOut:
    """One message."""
    with database.read() as session:
        return DeliveryOut.model_validate(deliveries.find(session, delivery))


@router.post(
    "/deliveries/{delivery}/redeliver",
    status_code=202,
    responses=problem_responses(401, 403, 404, 409),
)
def redeliver(delivery: str, response: Response, database: DatabaseDep) -> DeliveryOut:
    """Send a message again, or at once where it waits, with all its attempts."""
    with database.write() as session:
        shown = DeliveryOut.model_validate(deliveries.redeliver(session, delivery))
    response.headers["Location"] = f"/v1/webhooks/deliveries/{shown.id}"
    return shown


@router.get("/{webhook}", responses=problem_responses(401, 403, 404))
def get_webhook(webhook: str, database: DatabaseDep) -> WebhookOut:
    """One endpoint."""
    with database.read() as session:
        return WebhookOut.model_validate(endpoints.find(session, webhook))


@router.patch("/{webhook}", responses=problem_responses(401, 403, 404, 413))
def change_webhook(
    webhook: str, wanted: WebhookChange, database: DatabaseDep, settings: SettingsDep
) -> WebhookOut:
    """Change an endpoint, disable it, or enable it again."""
    with database.write() as session:
        return WebhookOut.model_validate(endpoints.change(session, settings, webhook, wanted))


@router.delete("/{webhook}", status_code=204, responses=problem_responses(401, 403, 404))
def delete_webhook(webhook: str, database: DatabaseDep) -> None:
    """Forget an endpoint and its messages; what was not sent yet never is."""
    with database.write() as session:
        session.delete(endpoints.find(session, webhook, lock=True))


@router.post("/{webhook}/secret", status_code=201, responses=problem_responses(401, 403, 404))
def renew_secret(
    webhook: str, response: Response, database: DatabaseDep, settings: SettingsDep
) -> NewSecret:
    """Give an endpoint a new secret, shown this once; the old one signs too for another day."""
    with database.write() as session:
        endpoint = endpoints.find(session, webhook, lock=True)
        secret = secrets.renew(endpoint, settings.secret_keys)
        shown = NewSecret(previous_until=endpoint.previous_until, secret=secret)
    _keep_nowhere(response)
    return shown


@router.post("/{webhook}/test", status_code=202, responses=problem_responses(401, 403, 404, 409))
def test_webhook(webhook: str, response: Response, database: DatabaseDep) -> DeliveryOut:
    """Send an endpoint a message of type ``webhook.test``, whatever it listens to."""
    with database.write() as session:
        shown = DeliveryOut.model_validate(deliveries.send_test(session, webhook))
    response.headers["Location"] = f"/v1/webhooks/deliveries/{shown.id}"
    return shown


@router.get("/{webhook}/deliveries", responses=problem_responses(401, 403, 404))
def list_deliveries_of_webhook(
    webhook: str,
    database: DatabaseDep,
    status: DeliveryStatus | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[DeliveryOut]:
    """An endpoint's messages, newest first."""
    with database.read() as session:
        endpoints.find(session, webhook)
        rows = deliveries.page(session, cursor, limit, endpoint_id=webhook, status=status)
    return _page_of_deliveries(rows, limit)


def _page_of_deliveries(rows: Sequence[WebhookDelivery], limit: int) -> Page[DeliveryOut]:
    items, following = cut_page(rows, limit, lambda row: row.id)
    return Page(items=[DeliveryOut.model_validate(row) for row in items], next_cursor=following)


def _keep_nowhere(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"
