"""The settings: one typed tree, and the only reader of the environment.

Flags beat the environment, which beats the TOML file, which beats the defaults.
"""

from kotaemon_grpc.config.access import Identity, Policy
from kotaemon_grpc.config.limits import Limits, Log, Traces
from kotaemon_grpc.config.listeners import TLS, Listener, Operations, Server, TLSFiles
from kotaemon_grpc.config.load import COMMAND_LINE, ENVIRONMENT_PREFIX, Layers, load
from kotaemon_grpc.config.tree import Client, Config, Conversations, Documents, Requests, Storage

__all__ = [
    "COMMAND_LINE",
    "ENVIRONMENT_PREFIX",
    "TLS",
    "Client",
    "Config",
    "Conversations",
    "Documents",
    "Identity",
    "Layers",
    "Limits",
    "Listener",
    "Log",
    "Operations",
    "Policy",
    "Requests",
    "Server",
    "Storage",
    "TLSFiles",
    "Traces",
    "load",
]
