"""The download cache, and where locked files are downloaded from."""
