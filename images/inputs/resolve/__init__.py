"""Chooses the files that locks list, by uv and apt, and finds where those are today.

Imports `lock` and `fetch`, which do not import it.
"""
