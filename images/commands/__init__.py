"""The commands of build.py: each parses its options, joins the stages and prints the result.

Imports every wing, each command when it runs.
"""
