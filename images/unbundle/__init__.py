"""The unpacker of a bundle, which runs at its destination: checks the parts, unpacks the image.

These modules are in every bundle as one file, `unpack.py`, a zip that Python runs. So they keep to
Python 3.8 and its standard library, and of the project they import only what is in the zip as well:
see `images.export.bundle.unpacker`. `inventory.py` imports no other module at all.
"""
