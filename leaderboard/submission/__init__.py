"""From a run to an entry: what may be handed in, what is left out, and who hands it in."""
