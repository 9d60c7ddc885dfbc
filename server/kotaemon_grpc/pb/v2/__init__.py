"""kotaemon.v2, generated."""
