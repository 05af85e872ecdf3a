"""Who may do what: tenants, their keys, and what a key opens."""
