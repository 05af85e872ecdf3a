"""Celery: the workers that do jobs, and the relay and reaper that see to it that they do."""
