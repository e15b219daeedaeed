"""The download cache, and the downloads of locked files from the index and the mirror."""
