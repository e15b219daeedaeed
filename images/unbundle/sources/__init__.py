"""Where bytes of layers come from: the parts of a bundle, and files that the destination has."""
