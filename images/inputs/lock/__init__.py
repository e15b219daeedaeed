"""Locks: their format, the records of locked files, and one module per kind of lock.

Reading a lock needs neither the network nor the resolvers.
"""
