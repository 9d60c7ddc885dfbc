"""The composition root: settings in, a running server out. Only it knows every part."""

from kotaemon_grpc.app.serving import serve

__all__ = ["serve"]
