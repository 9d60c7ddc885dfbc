"""The settings: one typed tree, and the only reader of the environment.

Flags beat the environment, which beats the TOML file, which beats the defaults.
"""

from kotaemon_grpc.config.load import COMMAND_LINE, ENVIRONMENT_PREFIX, load
from kotaemon_grpc.config.tree import (
    TLS,
    Client,
    Config,
    Conversations,
    Documents,
    Log,
    Operations,
    Server,
    Storage,
    TLSFiles,
)

__all__ = [
    "COMMAND_LINE",
    "ENVIRONMENT_PREFIX",
    "TLS",
    "Client",
    "Config",
    "Conversations",
    "Documents",
    "Log",
    "Operations",
    "Server",
    "Storage",
    "TLSFiles",
    "load",
]
