"""A stronger attack against an entry: its rows, who found it, and what the two together say."""
