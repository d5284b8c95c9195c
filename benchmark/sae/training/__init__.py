"""SAEs of any model: text, activations on disk, BatchTopK training, a measured JumpReLU SAE in sae_lens format."""
