"""The commit that is released."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from releasing.program import Refused, run

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Tree:
    """A working tree, and what its last commit is.

    Args:
        root: where it is.
        version: that of pyproject.toml.
        commit: the full name of the commit.
        epoch_s: when the commit was made, in seconds since 1970. Everything that is built has this
            time, so that it can be built again (reproducible-builds.org, SOURCE_DATE_EPOCH).
    """

    root: Path
    version: str
    commit: str
    epoch_s: int

    @classmethod
    def read(cls, root: Path) -> Tree:
        """Read a tree.

        Raises:
            Refused: it is no git repository with a commit.
        """
        commit, epoch_s = run("git", "log", "-1", "--format=%H %ct", cwd=root).split()
        text = run("git", "show", f"{commit}:pyproject.toml", cwd=root)
        project = tomllib.loads(text)["project"]
        return cls(root, project["version"], commit, int(epoch_s))

    @property
    def tag(self) -> str:
        """The tag that the release gets."""
        return f"v{self.version}"

    def check(self, *, rebuild: bool) -> None:
        """See whether the commit can be released.

        Args:
            rebuild: the tag is there already, and names this commit.

        Raises:
            Refused: files differ from the commit, or the tag is not as it has to be.
        """
        status = ("git", "status", "--porcelain", "--untracked-files=all")
        if changes := run(*status, cwd=self.root).splitlines():
            listed = "".join(f"\n  {line}" for line in changes[:10])
            raise Refused(f"the tree differs from its last commit in {len(changes)} files:{listed}")
        tagged = ""
        if run("git", "tag", "--list", self.tag, cwd=self.root):
            tagged = run("git", "rev-list", "-1", self.tag, cwd=self.root).strip()
        if rebuild and tagged != self.commit:
            raise Refused(f"{self.tag} does not name this commit, so it is not what was released")
        if tagged and not rebuild:
            raise Refused(
                f"{self.tag} is a tag already; give the project a new version, "
                "or make the same release once more with --rebuild"
            )

    def export(self, target: Path) -> None:
        """Put the files of the commit into a directory, and no others, with the commit's time."""
        target.mkdir()
        archive = target.with_suffix(".tar")
        # Without the mask, group members could write what git's users may read.
        mask = ("-c", "tar.umask=0022")
        run("git", *mask, "archive", f"--output={archive}", self.commit, cwd=self.root)
        run("tar", "--extract", f"--file={archive}", f"--directory={target}")
        archive.unlink()
