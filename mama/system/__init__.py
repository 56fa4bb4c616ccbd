"""Files, logs, locks, processes and the terminal, shared by all commands and free of the method."""
