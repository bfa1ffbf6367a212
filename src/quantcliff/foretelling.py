"""The command `quantcliff predict`."""
