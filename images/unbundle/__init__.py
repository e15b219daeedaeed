"""What runs where a bundle arrives: it checks the parts and lays the image out.

These modules travel in every bundle as one file, `unpack.py`, a zip that Python runs as it is. So
they keep to Python 3.8 and its standard library, and import nothing of the project but what travels
with them: `images.errors`, `images.util.limits`, `images.printable` and
`images.util.untrusted_files`. `inventory.py` stands alone even among them.
"""
