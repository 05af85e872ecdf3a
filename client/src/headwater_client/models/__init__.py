"""What comes out of the API."""

from headwater_client.models.answer import (
    Answer,
    Candidates,
    Contribution,
    CreatorShare,
    LicenceConflict,
    LicenceShare,
)
from headwater_client.models.attribution import Attribution, AttributionUrls, Event
from headwater_client.models.base import Page, Progress
from headwater_client.models.catalogue import (
    CataloguedSample,
    Contributor,
    Dataset,
    DiffusionModel,
    Refused,
    Sample,
)
from headwater_client.models.index import Evidence, Index, IndexUrls
from headwater_client.models.keys import ApiKey, NewApiKey
from headwater_client.models.problem import Problem
from headwater_client.models.takedown import Takedown
from headwater_client.models.webhook import (
    Delivery,
    NewSecret,
    NewWebhook,
    SigningSecret,
    Webhook,
)

__all__ = [
    "Answer",
    "ApiKey",
    "Attribution",
    "AttributionUrls",
    "Candidates",
    "CataloguedSample",
    "Contribution",
    "Contributor",
    "CreatorShare",
    "Dataset",
    "Delivery",
    "DiffusionModel",
    "Event",
    "Evidence",
    "Index",
    "IndexUrls",
    "LicenceConflict",
    "LicenceShare",
    "NewApiKey",
    "NewSecret",
    "NewWebhook",
    "Page",
    "Problem",
    "Progress",
    "Refused",
    "Sample",
    "SigningSecret",
    "Takedown",
    "Webhook",
]
