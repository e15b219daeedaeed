"""The command `test`: its options, the run of pytest, and the checkout of ROLL that it may need."""
