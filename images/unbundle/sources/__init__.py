"""Sources of layers: the parts of a bundle, and files that the destination has."""
