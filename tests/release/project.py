"""A repository that is released, and a key that signs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
LIMIT_S = 100

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Key:
    """A key in a directory of GnuPG's."""

    home: Path
    passphrase_file: Path
    user = "Release Test <release@example.org>"

    @classmethod
    def make(cls, home: Path, kind: str, passphrase: str) -> Key:
        """Make one."""
        home.chmod(0o700)
        key = cls(home, home / "passphrase")
        key.passphrase_file.write_text(passphrase, encoding="utf-8")
        key.gpg("--quick-gen-key", cls.user, kind, "sign", "never")
        (home / "public.gpg").write_bytes(key.gpg("--export"))
        (home / "secret.gpg").write_bytes(key.gpg("--export-secret-keys"))
        return key

    def gpg(self, *arguments: str) -> bytes:
        """Call GnuPG with this key alone."""
        unlocking = ["--pinentry-mode", "loopback", "--passphrase-file", str(self.passphrase_file)]
        command = ["gpg", "--batch", "--homedir", str(self.home), *unlocking, *arguments]
        return subprocess.run(command, capture_output=True, check=True).stdout

    def close(self) -> None:
        """End the agent that GnuPG has started for it."""
        command = ["gpgconf", "--homedir", str(self.home), "--kill", "all"]
        subprocess.run(command, check=True)

    @property
    def variables(self) -> dict[str, str]:
        """What `make release` is given to sign with it."""
        return {
            "SIGNING_KEY": "release@example.org",
            "KEYRING": str(self.home / "secret.gpg"),
            "PASSPHRASE_FILE": str(self.passphrase_file),
        }


@dataclass(frozen=True)
class Project:
    """A repository."""

    root: Path

    @property
    def dist(self) -> Path:
        """Where a release goes."""
        return self.root / "dist"

    @property
    def image(self) -> Path:
        """Where the tests put the image."""
        return self.root.with_name("image.tar")

    def git(self, *arguments: str) -> str:
        """Call git without the user's settings."""
        names = {f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER")
                 for what in ("NAME", "EMAIL")}  # fmt: skip
        alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - found on PATH
            cwd=self.root,
            env={**os.environ, **names, **alone},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self) -> None:
        """Commit everything."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=all")

    def labels(self) -> dict[str, str]:
        """Give the labels of an image of the commit."""
        return {
            "org.opencontainers.image.version": VERSION,
            "org.opencontainers.image.revision": self.git("rev-parse", "HEAD"),
        }

    def locked(self) -> dict[str, str]:
        """Give the packages of the lock of the image, and their versions."""
        lock = (self.root / "requirements" / "image.txt").read_text(encoding="utf-8")
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))

    def release(self, *arguments: str, **variables: str) -> Done:
        """Make a release, of the image that the tests have put there."""
        return self.run(f"--image-archive={self.image}", *arguments, **variables)

    def run(self, *arguments: str, **variables: str) -> Done:
        """Call the script."""
        kept = {k: v for k, v in os.environ.items()
                if k not in {"SIGNING_KEY", "KEYRING", "PASSPHRASE_FILE"}}  # fmt: skip
        return subprocess.run(
            [sys.executable, self.root / "scripts" / "release", *arguments],
            cwd=self.root,
            env={**kept, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
