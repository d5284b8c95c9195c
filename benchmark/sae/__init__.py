"""Sparse autoencoders: opened, read latent by latent, and a perturbation split into what they explain of it."""
