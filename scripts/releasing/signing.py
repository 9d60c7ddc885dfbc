"""The key that signs a release."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from releasing.program import Refused, run

if TYPE_CHECKING:
    from collections.abc import Iterator

RSA = "1"  # RFC 9580, section 9.1


@dataclass(frozen=True)
class SigningKey:
    """One secret key, in a directory of GnuPG's that goes when the release is made.

    Args:
        fingerprint: of the key.
        user: the user ID, by which Helm finds it.
        home: the directory of GnuPG's that has this key alone.
        passphrase_file: its first line is the passphrase; empty for a key without one.
    """

    fingerprint: str
    user: str
    home: Path
    passphrase_file: Path

    @classmethod
    def open(cls, name: str, keyring: Path | None, passphrase_file: Path, home: Path) -> SigningKey:
        """Find a key, and see that it signs.

        Args:
            name: the key as GnuPG takes it: a fingerprint, an address, a part of the user ID.
            keyring: a file of secret keys; None for those of the user's own GnuPG.
            passphrase_file: see above.
            home: a directory of mode 0700 that is ours.

        Raises:
            Refused: no key or several have the name, it is of a kind that Helm 3 does not know, or
                the passphrase is wrong.
        """
        if keyring is not None:
            run(*gpg(home), "--import", keyring)
            fingerprint, user = find(name, gpg(home), f"in {keyring}")
        else:
            fingerprint, user = find(name, gpg(), "among the secret keys of GnuPG")
            unlocked = unlocking(passphrase_file)
            exported = home / "secret.gpg"
            run(*gpg(), *unlocked, "--output", exported, "--export-secret-keys", fingerprint)
            run(*gpg(home), "--import", exported)
            exported.unlink()
        key = cls(fingerprint, user, home, passphrase_file)
        try:
            trial = home / "trial"
            trial.write_text("")
            key.sign(trial).unlink()
        except Refused as error:
            raise Refused(
                f"the key {name} does not sign; is the passphrase right?\n  {error}"
            ) from error
        return key

    def secret_keyring(self) -> Path:
        """Write the secret key as Helm reads it."""
        return self._export("secring.gpg", "--export-secret-keys")

    def public_keyring(self) -> Path:
        """Write the public key as Helm reads it."""
        return self._export("pubring.gpg", "--export")

    def sign(self, path: Path) -> Path:
        """Sign a file; the signature is beside it, with `.asc` behind its name."""
        signature = path.with_name(f"{path.name}.asc")
        run(
            *gpg(self.home), *unlocking(self.passphrase_file), "--local-user", self.fingerprint,
            "--armor", "--output", signature, "--detach-sign", path,
        )  # fmt: skip
        return signature

    def _export(self, name: str, verb: str) -> Path:
        path = self.home / name
        if not path.exists():
            unlocked = unlocking(self.passphrase_file)
            run(*gpg(self.home), *unlocked, "--output", path, verb, self.fingerprint)
        return path


@contextmanager
def key_directory() -> Iterator[Path]:
    """Give a directory for keys that nobody else reads, in memory where there is such a place.

    At its end it goes, and so does the agent that GnuPG has started for it.
    """
    places = [os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"]  # noqa: S108 - mkdtemp's mode is 0700
    place = next((each for each in places if each and os.access(each, os.W_OK | os.X_OK)), None)
    with tempfile.TemporaryDirectory(prefix="release-key-", dir=place) as name:
        try:
            yield Path(name)
        finally:
            run("gpgconf", "--homedir", name, "--kill", "all")


def gpg(home: Path | None = None) -> list[str]:
    """Give the command that calls GnuPG, which never asks."""
    return ["gpg", "--batch", "--quiet", *(["--homedir", str(home)] if home else [])]


def unlocking(passphrase_file: Path) -> list[str]:
    """Give the arguments that hand a passphrase over."""
    return ["--pinentry-mode", "loopback", "--passphrase-file", str(passphrase_file)]


def find(name: str, command: list[str], where: str) -> tuple[str, str]:
    """Find the fingerprint and the user ID of a secret key.

    Raises:
        Refused: none or several have the name, or Helm 3 does not know its kind.
    """
    try:
        listing = run(*command, "--with-colons", "--list-secret-keys", name)
    except Refused as error:
        raise Refused(f"no secret key {name} is {where}") from error
    rows = [line.split(":") for line in listing.splitlines()]
    keys = [row for row in rows if row[0] == "sec"]
    if len(keys) != 1:
        raise Refused(f"{len(keys)} secret keys {where} have the name {name}; give the fingerprint")
    if keys[0][3] != RSA:
        raise Refused(f"the key {name} is not one of RSA, and Helm 3 verifies no other")
    fingerprint = next(row[9] for row in rows if row[0] == "fpr")
    user = next(row[9] for row in rows if row[0] == "uid")
    return fingerprint, user.replace("\\x3a", ":")
