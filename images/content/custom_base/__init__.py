"""An image of somebody else as the base of a target."""
