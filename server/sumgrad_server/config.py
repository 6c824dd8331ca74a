"""Where settings come from: flags, then environment variables, then a file, then their defaults. What is wrong is said with its place.

A setting has the same name everywhere: `max_queue` in a file, `--max-queue`, `SUMGRAD_MAX_QUEUE`. The exceptions are in `variable`.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import itertools
import json
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .addresses import check_address, check_exposure
from .settings import Settings

NAMES = tuple(field.name for field in dataclasses.fields(Settings))
HINTS = get_type_hints(Settings)
LEAST = {name: 1 for name in NAMES if name == "workers" or (name.startswith("max_") and not name.endswith("_seconds"))}
MOST = {"max_message_bytes": 2**31 - 1, "max_connection_calls": 2**31 - 1}
"""GRPC has no room for more."""
EMPTY_SAYS_SOMETHING = frozenset({"cache_dir"})
PREFIX = "SUMGRAD_"
FILE_VARIABLE = "SUMGRAD_CONFIG"
OTHERS = frozenset(
    {"SUMGRAD_CACHE", FILE_VARIABLE, *(f"SUMGRAD_{name}" for name in ("TOKEN", "TOKEN_FILE", "TLS_CA", "TLS_CERT", "TLS_KEY"))}
)
"""Variables that are none of the server's settings: the engine's cache, this file, and what clients show and believe."""
SIMILAR = 0.75


class ConfigError(ValueError):
    """A setting that is none, or has no value that it may have; the message names where it stands."""


def variable(name: str) -> str:
    """The environment variable of a setting. SUMGRAD_TLS_CERT and SUMGRAD_TOKEN are a client's: the server's have SERVER in their names."""
    return f"{PREFIX}{'SERVER_' if name.startswith(('tls_', 'tokens')) else ''}{name.upper()}"


def flag(name: str) -> str:
    """The flag of a setting."""
    return f"--{name.replace('_', '-')}"


VARIABLES = {variable(name): name for name in NAMES}


@dataclass(frozen=True)
class Kind:
    """What values a setting may have, how they are read from text, and how that is said."""

    says: str
    fits: Callable[[Any], bool]
    parse: Callable[[str], Any] = str

    @classmethod
    def of(cls, name: str) -> Kind:
        """That of a setting, from its annotation."""
        hint = HINTS[name]
        if get_origin(hint) is Literal:
            return cls(f"one of {', '.join(get_args(hint))}", lambda value: value in get_args(hint))
        if hint is bool:
            return cls("true or false", lambda value: type(value) is bool, _truth)
        if hint is int:
            least, most = LEAST.get(name, 0), MOST.get(name, 2**63 - 1)
            says = f"a whole number, at least {least}" + (f" and at most {most}" if name in MOST else "")
            return cls(says, lambda value: type(value) is int and least <= value <= most, int)
        if hint is float:
            return cls("a number of seconds, at least 0", lambda value: type(value) in (int, float) and 0.0 <= value < math.inf, float)
        return cls("a string", lambda value: isinstance(value, str))


def _truth(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text.lower()]


def checked(name: str, value: Any, where: str) -> Any:
    """The value, if the setting may have it. Raises ConfigError."""
    kind = Kind.of(name)
    if not kind.fits(value):
        raise ConfigError(f"{where} must be {kind.says}, not {_shown(value)}")
    if value == "" and name not in EMPTY_SAYS_SOMETHING:
        return None if HINTS[name] is not str else value
    return float(value) if HINTS[name] is float else value


def parsed(name: str, text: str, where: str) -> Any:
    """The value that a text of a flag or variable says. Raises ConfigError."""
    kind = Kind.of(name)
    try:
        value = kind.parse(text)
    except (ValueError, KeyError):
        raise ConfigError(f"{where} must be {kind.says}, not {_shown(text)}") from None
    return checked(name, value, where)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings in environment variables. Raises ConfigError, also for a variable that looks like one of them and is not."""
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in VARIABLES and name not in OTHERS:
            # Names that nobody took for a setting's pass: Kubernetes, for one, sets SUMGRAD_SERVICE_HOST for a service of that name.
            bare = name.removeprefix(PREFIX).removeprefix("SERVER_").lower()
            near = difflib.get_close_matches(bare, NAMES, cutoff=SIMILAR)
            if near or bare.startswith("max_"):
                raise ConfigError(f"{name} is no setting{_meant([variable(one) for one in near], sorted(VARIABLES))}")
    return {name: parsed(name, environ[key], key) for key, name in VARIABLES.items() if key in environ}


def from_file(path: str) -> dict[str, Any]:
    """The settings in a TOML file. Raises ConfigError."""
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from error
    except ValueError as error:  # TOML's errors, and bytes that are no UTF-8
        raise ConfigError(f"{path} is no TOML: {error}") from error
    for name in content:
        if name not in NAMES:
            raise ConfigError(f"{path}: {name} is no setting{_meant(difflib.get_close_matches(name, NAMES), sorted(NAMES))}")
    return {name: checked(name, value, f"{path}: {name}") for name, value in content.items()}


def _meant(near: list[str], known: list[str]) -> str:
    return f"; {near[0]} is one, and all are: {', '.join(known)}" if near else f"; all are: {', '.join(known)}"


@dataclass(frozen=True)
class Configured:
    """The settings, and where each that is not the default comes from."""

    settings: Settings
    origins: Mapping[str, str]

    def toml(self) -> str:
        """A file that gives the same settings, with where each came from. There is no secret in it: settings name files of secrets."""
        lines = ["# What `sumgrad serve` goes by; feed it back with --config."]
        for name in NAMES:
            value, origin = getattr(self.settings, name), " ".join(self.origins.get(name, "default").split())
            lines.append(f"# {name} has no value  # {origin}" if value is None else f"{name} = {_toml(value)}  # {origin}")
        return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, str):  # TOML's strings are JSON's, but for one character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower()


def configured(flags: Mapping[str, str | bool], environ: Mapping[str, str], path: str | None = None) -> Configured:
    """The settings of flags (as text, or bool), of the environment, and of the file of this path or of SUMGRAD_CONFIG. Raises ConfigError."""
    path = path if path is not None else environ.get(FILE_VARIABLE) or None
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if path is not None:
        values |= from_file(path)
        origins |= dict.fromkeys(values, path)
    found = from_environment(environ)
    values |= found
    origins |= {name: variable(name) for name in found}
    values |= {name: text if isinstance(text, bool) else parsed(name, text, flag(name)) for name, text in flags.items()}
    origins |= {name: flag(name) for name in flags}
    settings = Settings(**values)
    check(settings)
    return Configured(settings, origins)


def check(settings: Settings) -> None:
    """Raises ConfigError for settings that don't go together."""
    if (settings.tls_cert is None) is not (settings.tls_key is None):
        raise ConfigError("--tls-cert and --tls-key go together: a certificate is shown with its key")
    if settings.tls_client_ca is not None and settings.tls_cert is None:
        raise ConfigError("--tls-client-ca asks clients for certificates, which needs --tls-cert and --tls-key")
    try:
        for name in ("address", "metrics_address"):
            address = getattr(settings, name)
            if address is not None:
                check_address(flag(name), address)
                check_exposure(flag(name), address, settings)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def meanings() -> dict[str, str]:
    """What settings.py says about each setting. Python does not keep the docstrings of fields, so the source is asked."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(Settings)).body if isinstance(node, ast.ClassDef))
    found = {}
    for field, said in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(said, ast.Expr):
            found[field.target.id] = inspect.cleandoc(ast.literal_eval(said.value))
    return found
