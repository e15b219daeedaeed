"""The commands of build.py: each joins the stages in `images/` and prints what came of it."""
