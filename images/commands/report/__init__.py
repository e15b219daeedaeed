"""The results that commands print, as text and as JSON."""
