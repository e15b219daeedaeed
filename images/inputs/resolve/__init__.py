"""The resolvers: uv and apt choose the files that locks list, and locate them later.

Imports `lock` and `fetch`, which do not import it.
"""
