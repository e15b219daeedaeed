"""The resolvers: they make the locks (`target_locks`, `shared_locks`) and locate files later.

uv chooses distributions (`uv`, `sdists`), apt Debian packages (`apt`).

Imports `lock` and `fetch`, which do not import it.
"""
