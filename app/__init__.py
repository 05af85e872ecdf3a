"""What people and platforms talk to: HTTP, the database, jobs.  Imports no torch."""
