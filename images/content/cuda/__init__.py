"""The CUDA compiler, and the links to the CUDA libraries of the wheels."""
