"""The model under test: where it is read and written, and every way in which it is run."""
