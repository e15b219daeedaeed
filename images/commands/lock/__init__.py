"""The commands `lock` and `propose`: their options and runs, and the locks that targets share."""
