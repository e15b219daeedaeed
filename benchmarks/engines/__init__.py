"""The engines of nodes: each with storage of its own below one directory."""
