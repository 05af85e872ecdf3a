"""Takedowns: an image leaves the catalogue, every index, old answers and exports."""
