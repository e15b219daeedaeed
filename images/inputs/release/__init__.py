"""A release of SGLang that is to become a target: what the index has of it, and what it needs.

`proposal` makes the changes of files that add it; nothing here writes them.
"""
