"""HTTP requests for all clients of the builder: one session, retry policy and redirect rule.

Imports `util`.
"""
