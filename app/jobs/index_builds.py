"""The last steps of an index build, race-safe: whoever ends the last shard starts the end."""

from __future__ import annotations

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.config import Settings
from app.database.tables import IndexVersion, Job, Model, now
from app.indexes.methods import served_methods
from app.jobs.kinds import BUILD, INDEX_FINALISE, INDEX_SHARD
from app.jobs.submission import submit
from app.webhooks.notices import tell_of_index


def finalise_after_last_shard(session: Session, settings: Settings, index_id: str) -> None:
    """Submit the build's last job if no shard is left; in the transaction that ended one.

    The lock makes two last shards take turns: the second one sees the first one's end.
    """
    owner = select(IndexVersion.tenant_id).where(
        IndexVersion.id == index_id, IndexVersion.state != "failed"
    )
    tenant = session.scalars(owner.with_for_update()).one_or_none()
    if tenant is None:  # the build was ended meanwhile
        return
    left = session.scalar(
        select(func.count()).where(
            Job.index_id == index_id, Job.kind == INDEX_SHARD, Job.status != "succeeded"
        )
    )
    if left == 0:
        submit(
            session,
            settings,
            INDEX_FINALISE,
            {},
            index_id=index_id,
            priority=BUILD,
            tenant_id=tenant,
        )


def mark_ready(session: Session, index_id: str, manifest_digest: str) -> None:
    """The index is whole: ready, and its model's active one.

    One that answers other methods than the active one stands beside it until somebody activates
    it: a baseline built for comparison does not take over.  A build that was ended while its last
    job was ending stays so.
    """
    index = session.get_one(IndexVersion, index_id, populate_existing=True, with_for_update=True)
    if index.state != "building":
        return
    index.state = "ready"
    index.manifest_digest = manifest_digest
    index.ready_at = now()
    session.flush()
    tell_of_index(session, index_id, "ready")
    active = session.scalars(
        select(IndexVersion).where(IndexVersion.model_id == index.model_id, IndexVersion.active)
    ).one_or_none()
    if active is None or served_methods(active) in ([], served_methods(index)):
        activate(session, index)


def activate(session: Session, index: IndexVersion) -> None:
    """Make a ready index its model's active one; concurrent calls take turns."""
    session.execute(select(Model.id).where(Model.id == index.model_id).with_for_update())
    session.execute(
        update(IndexVersion)
        .where(IndexVersion.model_id == index.model_id, IndexVersion.active)
        .values(active=False)
    )
    index.active = True
    session.flush()
