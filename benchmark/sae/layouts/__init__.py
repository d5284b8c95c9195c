"""SAEs as their publishers lay them out: one file a layout, each a reader from files to one normal form."""
