"""Lock files and the two resolvers that write them: uv and apt."""
