"""Models: diffusers directories on the server, each with its CLIP."""
