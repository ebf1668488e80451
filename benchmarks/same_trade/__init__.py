"""Is it worth joining others of one's own trade? A table of codes, shared under user-level privacy."""
