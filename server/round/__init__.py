"""Round: send tasks, validate answers, collect updates."""
