"""HTTP for those who operate the server: a page for people, metrics and probes. No user data."""

from kotaemon_grpc.transport.operations.page import Facts, Row, Section, State
from kotaemon_grpc.transport.operations.server import Operations
from kotaemon_grpc.transport.operations.tls import ServerTLS, server_tls

__all__ = ["Facts", "Operations", "Row", "Section", "ServerTLS", "State", "server_tls"]
