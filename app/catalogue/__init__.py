"""Training images and their creators across datasets."""
