"""Analysis of images, built or planned: `plan`, `diff`, `sizes`, size budgets.

Imports `build` and what that may import.
"""
