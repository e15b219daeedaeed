"""A build on a Ray cluster: its layers are tasks, and a shared cache takes them to the driver."""
