"""The command line, and what it shares with the demo: the HTTP client, progress, tables."""
