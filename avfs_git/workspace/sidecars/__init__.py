"""What is beside the commits of a fork: see `kept`."""
