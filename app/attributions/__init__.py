"""Attributions: which training images a picture came from, asked and answered as jobs."""
