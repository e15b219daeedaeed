"""The command `lock`: its options and run, and the locks that targets share."""
