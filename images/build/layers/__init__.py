"""The kinds of layers whose recipes take more than a few lines."""
