"""Training-data attribution for image diffusion models: images and weights in, scores out."""
