"""Puts the layers of the settings together and says what is wrong with each."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_origin

from pydantic import ValidationError

from kotaemon_grpc.auth import files
from kotaemon_grpc.auth.reload import SourceError
from kotaemon_grpc.config.tree import Config
from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic_core import ErrorDetails

ENVIRONMENT_PREFIX = "KOTAEMON_GRPC_"
_FILE_VARIABLE = f"{ENVIRONMENT_PREFIX}CONFIG"
# Kubernetes gives every container such variables for every service of its namespace: one named
# "kotaemon-grpc" would fill our prefix (its "Environment variables" under "Service").
_SERVICE_LINK = re.compile(
    r"(?!.*__)(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

# The types of settings that are not text of their own, beside lists and tables of them.
_PARSED = (bool, int, float)


COMMAND_LINE = "command line"
"""What a message about a flag begins with."""


class _Setting(NamedTuple):
    """A value that a layer gives: `name` is its key as the layer spells it."""

    key: str
    value: Any
    source: str
    name: str


@dataclass(slots=True)
class Layers:
    """Where the settings come from, so that they can be read again; see `load`.

    Args:
        given_file: as `load` takes `file`.
        environ: as `load` takes it.
        flags: as `load` takes them.
    """

    given_file: Path | None
    environ: Mapping[str, str] = field(repr=False)
    flags: Mapping[str, object] = field(repr=False)
    _was_read: bool = field(default=False, init=False)
    _had_keys: bool = field(default=False, init=False)

    @property
    def file(self) -> Path | None:
        """The file that is read, if any."""
        return _file_of(self.given_file, self.environ)

    def load(self) -> Config:
        """Read the settings anew.

        Raises:
            OperatorError: as `load` does; and, the second time, the file is no regular one
                or has lost all its keys, as one that was cut off or is not written yet.
        """
        file = self.file
        in_file = [] if file is None else list(_from_file(file, again=self._was_read))
        if self._had_keys and not in_file:
            raise OperatorError(
                f"config file {file} has no key any more; to take all back, leave one in it"
            )
        config = _merged(in_file, self.environ, self.flags)
        self._was_read, self._had_keys = True, bool(in_file)
        return config


def load(
    *,
    file: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
) -> Config:
    """Read the settings.

    Args:
        file: the TOML file; None reads the one that `KOTAEMON_GRPC_CONFIG` names, if any.
        environ: `KOTAEMON_GRPC_SECTION__KEY`; numbers, lists and tables in TOML or JSON syntax.
        flags: by dotted key, as `server.listen`, as values or as text; None or
            an empty tuple for one that was not given.

    Raises:
        OperatorError: the file cannot be read, or a key or value is wrong; one line for
            each problem.
    """
    return Layers(file, environ, flags).load()


def _merged(
    in_file: list[_Setting], environ: Mapping[str, str], flags: Mapping[str, object]
) -> Config:
    known = _known_keys()
    given = [
        *in_file,
        *_from_environment(environ, known),
        *_from_flags(flags, known),
    ]
    problems = [_unknown(setting, known) for setting in given if setting.key not in known]
    effective = {setting.key: setting for setting in given if setting.key in known}
    tree: dict[str, dict[str, Any]] = {}
    for setting in effective.values():
        section, _, key = setting.key.partition(".")
        tree.setdefault(section, {})[key] = setting.value
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        problems += [_invalid(detail, effective, known) for detail in details]
    if problems:
        raise OperatorError("\n".join(dict.fromkeys(problems)))
    return config


def _file_of(given: Path | None, environ: Mapping[str, str]) -> Path | None:
    if given is None and environ.get(_FILE_VARIABLE):
        return Path(environ[_FILE_VARIABLE])
    return given


def _known_keys() -> dict[str, Any]:
    """Map each dotted key to the type of its value."""
    return {
        f"{section}.{key}": field.annotation
        for section, holder in Config.model_fields.items()
        if holder.annotation is not None
        for key, field in holder.annotation.model_fields.items()
    }


def _from_file(path: Path, *, again: bool) -> Iterator[_Setting]:
    try:
        tree = tomllib.loads(_content(path, again=again).decode())
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise OperatorError(
            f"config file {path} cannot be read: {reason}; name another with --config"
        ) from None
    except SourceError as error:
        raise OperatorError(f"config file {path} cannot be used: {error}") from None
    except UnicodeDecodeError:
        raise OperatorError(f"config file {path} is not UTF-8; TOML has to be") from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at [^()]*\)$", str(error))
        raise OperatorError(
            f"config file {path} is not TOML {place.group() if place else ''}".rstrip()
            + "; mend what stands there"
        ) from None
    source = f"config file {path}"
    for key, value in _leaves(tree, _known_keys()):
        yield _Setting(key, value, source, key)


def _content(path: Path, *, again: bool) -> bytes:
    if again or path.is_file():
        return files.read(path)
    # A pipe, which a shell makes of a command's output: whoever starts us waits for it.
    with path.open("rb") as pipe:
        content = pipe.read(files.MAX_BYTES + 1)
    if len(content) > files.MAX_BYTES:
        raise SourceError(f"it is larger than {files.MAX_BYTES} bytes")
    return content


def _from_environment(environ: Mapping[str, str], known: Mapping[str, Any]) -> Iterator[_Setting]:
    for name in sorted(environ):
        rest = name.removeprefix(ENVIRONMENT_PREFIX)
        if name in {rest, _FILE_VARIABLE} or _SERVICE_LINK.fullmatch(rest):
            continue
        key = rest.lower().replace("__", ".")
        if key in Config.model_fields:
            # A whole section; listed before its keys, which therefore beat it.
            table = _parse(environ[name])
            if isinstance(table, dict):
                for inner, value in _leaves({key: table}, known):
                    yield _Setting(inner, value, "environment", name)
                continue
        is_parsed = _is_parsed(known.get(key))
        value = _parse(environ[name]) if is_parsed else environ[name]
        yield _Setting(key, value, "environment", name)


def _from_flags(flags: Mapping[str, object], known: Mapping[str, Any]) -> Iterator[_Setting]:
    for key, value in flags.items():
        if value is None or value == ():
            continue
        is_parsed = isinstance(value, str) and _is_parsed(known.get(key))
        yield _Setting(key, _parse(str(value)) if is_parsed else value, COMMAND_LINE, key)


def _is_parsed(annotation: Any) -> bool:
    return annotation in _PARSED or get_origin(annotation) in {tuple, dict}


def _parse(text: str) -> Any:
    """Read a value in JSON or TOML syntax; what is neither is text."""
    readers: tuple[Callable[[], Any], ...] = (
        lambda: json.loads(text),
        lambda: tomllib.loads(f"value = {text}")["value"],
    )
    for read in readers:
        try:
            value = read()
        except ValueError:
            continue
        return text if value is None else value
    return text


def _leaves(
    tree: Mapping[str, Any], known: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Flatten tables to dotted keys, but those that are settings themselves.

    An empty table says nothing but its name.
    """
    for key, value in tree.items():
        path = f"{prefix}{key}"
        is_section = not prefix and key in Config.model_fields
        if isinstance(value, dict) and path not in known and (value or is_section):
            yield from _leaves(value, known, f"{path}.")
        else:
            yield path, value


def _unknown(setting: _Setting, known: Mapping[str, Any]) -> str:
    if setting.key in Config.model_fields:
        return f'{setting.source}: "{setting.name}" is a table of settings, not a value'
    as_variable = setting.source == "environment"
    nearest = difflib.get_close_matches(setting.key, known, n=1, cutoff=0)[0]
    if as_variable:
        nearest = ENVIRONMENT_PREFIX + nearest.replace(".", "__").upper()
    return f'{setting.source}: unknown key "{setting.name}"; did you mean "{nearest}"?'


def _split(path: str, known: Mapping[str, Any]) -> tuple[str, str]:
    """Part the path of a problem into a setting and the place in it, counted from 0."""
    parts = path.split(".")
    # The literal choices and unions that pydantic names in a path say nothing to people.
    inner = [part for part in parts[2:] if part.isidentifier() or part.isdigit()]
    key = ".".join(parts[:2])
    return key, ".".join(inner) if get_origin(known.get(key)) in {tuple, dict} else ""


def _invalid(
    detail: ErrorDetails, effective: Mapping[str, _Setting], known: Mapping[str, Any]
) -> str:
    """Word a problem. The value itself is not repeated: it may be a secret."""
    path = ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    message = message[:1].lower() + message[1:]
    if detail["type"] == "extra_forbidden":
        message = "there is no such key"
    key, inner = _split(path, known)
    if key in known:
        setting = effective[key]
        place = f" at {inner}" if inner else ""
        return f'{setting.source}: "{setting.name}" is not valid{place}: {message}'
    # Keys of a section that do not go together: told of the strongest layer that gave one.
    sources = [each.source for name, each in effective.items() if name.startswith(f"{key}.")]
    return f"{sources[-1]}: [{key}] is not valid: {message}"
