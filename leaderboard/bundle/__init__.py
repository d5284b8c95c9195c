"""An entry on disk: a run of one defense, made public, with who handed it in and the hash of every file."""
