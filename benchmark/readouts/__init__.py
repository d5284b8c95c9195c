"""What may be read of a model, a file each: how it is encoded, read, searched and held against a reference."""
