"""Celery for a broker: transport only.  The database is the truth about jobs."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from app.config import Settings
from app.jobs.kinds import TASKS, Queue
from workers import file_transport

CONNECT_SECONDS = 3


def make_celery(settings: Settings) -> Celery:
    """Celery for the settings' broker."""
    celery = Celery("headwater", include=["workers.tasks.queues"])
    celery.conf.update(
        broker_url=settings.broker_url,
        broker_transport_options=_transport_options(settings),
        broker_connection_timeout=CONNECT_SECONDS,
        broker_connection_retry_on_startup=True,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_default_queue=settings.gpu_queue,
        task_routes={
            TASKS["gpu"]: {"queue": settings.gpu_queue},
            TASKS["cpu"]: {"queue": settings.cpu_queue},
        },
        task_time_limit=settings.time_limit_seconds,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_soft_shutdown_timeout=5.0,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
    )
    return celery


def empty_queues(celery: Celery, settings: Settings) -> list[Queue]:
    """The queues in which no message waits; none where the broker cannot be asked."""
    names: dict[Queue, str] = {"gpu": settings.gpu_queue, "cpu": settings.cpu_queue}
    with celery.connection_for_read() as connection:
        try:
            connection.ensure_connection(max_retries=1)
            channel = connection.default_channel
            return [q for q, name in names.items() if not channel.queue_declare(name).message_count]
        except (OperationalError, OSError, *connection.connection_errors):
            return []


def _transport_options(settings: Settings) -> dict[str, Any]:
    if settings.broker_url.startswith("filesystem:"):
        file_transport.install()
        messages = settings.home / "queue" / "messages"
        # The same folder in and out: kombu's transport was made for two ends of a shared folder.
        folders = {
            "data_folder_in": messages,
            "data_folder_out": messages,
            "control_folder": settings.home / "queue" / "control",
        }
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        return {"polling_interval": 0.1} | {name: str(path) for name, path in folders.items()}
    return {
        # Longer than any task: Redis hands a message out again after this time.
        "visibility_timeout": settings.time_limit_seconds + 600,
        "socket_timeout": 30,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_keepalive": True,
        "health_check_interval": 30,
    }
