"""The page: what a person sees of an installation, in a browser."""
