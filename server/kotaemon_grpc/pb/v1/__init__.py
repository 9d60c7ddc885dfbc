"""kotaemon.v1, generated."""
