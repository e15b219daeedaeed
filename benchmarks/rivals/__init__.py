"""What a user would do instead of our builder, each as an object with the same few commands."""
