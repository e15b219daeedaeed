"""The files of an image: each module gives entries of a layer, none makes a blob.

Imports `inputs` and what that may know.
"""
