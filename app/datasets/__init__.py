"""Datasets: training images, whose they are, and under which licence."""
