"""The CUDA compiler, and links to the CUDA libraries in the wheels."""
