"""Site identity: name and key, the pinned authority, and the roster of peers."""
