"""SAEs of any model: text -> activations on disk -> BatchTopK training -> a JumpReLU SAE in sae_lens format, measured."""
