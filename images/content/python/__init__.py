"""The image's interpreter and its byte code."""
