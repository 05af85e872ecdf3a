"""Webhooks: a client's server is told what has ended, so that nobody has to poll."""
