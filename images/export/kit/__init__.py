"""Kits: images, their GPU tests and the program that runs them, for a machine with a GPU."""
