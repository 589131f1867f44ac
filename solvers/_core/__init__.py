"""The shared spine: everything that two families need, and nothing that only one needs.

Families import from the modules of this package and never from each other.
"""
