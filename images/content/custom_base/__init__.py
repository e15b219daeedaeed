"""An existing image as the base of a target."""
