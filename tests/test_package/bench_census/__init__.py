"""A third party's package for `bench`."""
