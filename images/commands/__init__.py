"""The commands of build.py: each module declares the options of its commands beside their run.

`parser` joins them, `selection` and `options` have what they share, `report` what they print.
Imports every wing, each command when it runs.
"""
