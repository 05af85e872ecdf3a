"""Indexes: building versions, following the build, choosing the active one."""
