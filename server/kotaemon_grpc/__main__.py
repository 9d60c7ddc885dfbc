"""`python -m kotaemon_grpc`, and what the command `kotaemon-grpc` runs."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; without its dependencies, say how to get them."""
    try:
        from kotaemon_grpc.cli import main as run  # noqa: PLC0415 - it may be missing its libraries
    except ModuleNotFoundError as error:
        sys.exit(
            f"error: {error.name} is not installed; run \"pip install 'kotaemon-grpc[server]'\""
        )
    run()


if __name__ == "__main__":
    main()
