"""The experiments that ship with FedMaMA."""
