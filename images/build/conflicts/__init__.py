"""Files that more than one distribution of a target installs."""
