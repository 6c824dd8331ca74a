"""Bearer tokens: the file that they are kept in, and finding out whose one is.

A token is 256 random bits, so nobody guesses one, and a plain SHA-256 of it is as good as a slow hash, which is for passwords that people choose.
The file has these hashes and no token. It is written in one piece and read again when it changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import itertools
import json
import logging
import math
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias, get_args

from .auth import DEFAULT_NAMESPACE, Principal, Scope
from .faults import UnauthenticatedError

log = logging.getLogger(__name__)

PREFIX = "sgt_"
"""Every token begins so: searches for secrets that got where they should not be know them by it."""
TOKEN_BYTES = 32
VERSION = 1
MAX_TOKENS = 1000
"""Every call is compared with each."""
MAX_HEADER = 512
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MODE = 0o600
REFUSED = 'this server wants a token that it knows, as metadata "authorization: Bearer TOKEN"; for the client: connect(..., token=TOKEN), or SUMGRAD_TOKEN'
"""For no token, an unknown and an expired one: which it is, is nobody's business."""

Stamp: TypeAlias = tuple[int, int, int]


class TokenFileError(ValueError):
    """A file of tokens that can't be used; the message names it and says why."""


@dataclass(frozen=True)
class Entry:
    """A token, as it is kept. Times are in seconds since 1970."""

    name: str
    sha256: str
    namespace: str
    scopes: tuple[Scope, ...]
    created: float
    expires: float | None = None
    max_queue: int | None = None
    max_dataset_bytes: int | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Entry:
        """The entry in a JSON object. Raises ValueError, KeyError or TypeError."""
        entry = cls(**{**fields, "scopes": tuple(fields["scopes"])})
        entry.check()
        return entry

    def check(self) -> None:
        """Raises ValueError or TypeError unless every field is one."""
        for what in ("name", "namespace"):
            if not NAME.fullmatch(getattr(self, what)):
                raise ValueError(f"{what} {getattr(self, what)!r} must have 1 to 64 letters, digits, dots, dashes and underscores")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 of {self.name!r} is none")
        if not self.scopes or set(self.scopes) - set(get_args(Scope)):
            raise ValueError(
                f"scopes of {self.name!r} must be some of {', '.join(get_args(Scope))}, not {', '.join(self.scopes) or 'none'}"
            )
        for what in ("max_queue", "max_dataset_bytes"):
            limit = getattr(self, what)
            if limit is not None and not (type(limit) is int and limit > 0):
                raise ValueError(f"{what} of {self.name!r} must be a whole number from 1, not {limit!r}")
        if not all(math.isfinite(moment) for moment in (self.created, self.expires or 0.0)):
            raise ValueError(f"created and expires of {self.name!r} must be times")

    def has_expired(self, now: float) -> bool:
        """Whether its time is over."""
        return self.expires is not None and self.expires <= now

    @property
    def principal(self) -> Principal:
        """Whom it stands for."""
        return Principal(self.name, self.namespace, frozenset(self.scopes), self.max_queue, self.max_dataset_bytes)


def hash_of(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()  # HTTP's headers may hold anything


def create(
    name: str,
    namespace: str = DEFAULT_NAMESPACE,
    scopes: Sequence[Scope] = ("read", "compute"),
    *,
    seconds: float | None = None,
    max_queue: int | None = None,
    max_dataset_bytes: int | None = None,
) -> tuple[str, Entry]:
    """A new token, and what is to be kept of it; it expires after so many seconds, or never. Raises ValueError."""
    token, now = PREFIX + secrets.token_urlsafe(TOKEN_BYTES), time.time()
    expires = None if seconds is None else now + seconds
    entry = Entry(name, hash_of(token), namespace, tuple(scopes), now, expires, max_queue, max_dataset_bytes)
    entry.check()
    return token, entry


class TokenFile:
    """The file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def stamp(self) -> Stamp | None:
        """Changes when the file does; None without one."""
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def read(self) -> tuple[Entry, ...]:
        """All entries. Raises TokenFileError."""
        try:
            with open(self.path, encoding="utf-8") as file:
                self._check_mode(os.fstat(file.fileno()))
                return _entries(json.load(file))
        except OSError as error:
            raise TokenFileError(f"can't read {self.path}: {error.strerror}; `sumgrad tokens create` makes it") from error
        except TokenFileError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise TokenFileError(f"{self.path} is no file of tokens: {error}") from error

    def _check_mode(self, status: os.stat_result) -> None:
        mode = status.st_mode
        if not stat.S_ISREG(mode):
            raise TokenFileError(f"{self.path} is no file")
        # Root's file is there for the group that root gave it, as Kubernetes mounts a Secret; the rule that PostgreSQL has for keys.
        others = 0o037 if status.st_uid == 0 != os.geteuid() else 0o077
        if mode & others:
            raise TokenFileError(f"{self.path} can be read or written by others (mode {stat.S_IMODE(mode):04o}): chmod 600 {self.path}")

    def add(self, entry: Entry) -> None:
        """Adds a token, to a new file if there is none. Raises TokenFileError, OSError."""
        with self._locked():
            entries = self.read() if self.path.exists() else ()
            if entry.name in {other.name for other in entries}:
                raise TokenFileError(f"{self.path} has a token of {entry.name!r}: revoke it, or choose another name")
            if len(entries) >= MAX_TOKENS:
                raise TokenFileError(f"{self.path} has {MAX_TOKENS} tokens, which is the most: revoke some")
            self._write((*entries, entry))

    def remove(self, name: str) -> None:
        """Removes a token. Raises TokenFileError, OSError."""
        with self._locked():
            entries = self.read()
            left = tuple(entry for entry in entries if entry.name != name)
            if len(left) == len(entries):
                raise TokenFileError(
                    f"{self.path} has no token of {name!r}; there are: {', '.join(entry.name for entry in entries) or 'none'}"
                )
            self._write(left)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among those who write. The folder is locked: the file is another one after each change."""
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _write(self, entries: Iterable[Entry]) -> None:
        """Puts these in its place, all or nothing, under the owner that it had."""
        text = json.dumps({"version": VERSION, "tokens": [asdict(entry) for entry in entries]}, indent=1) + "\n"
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}-")  # mode 0600
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                with contextlib.suppress(FileNotFoundError):
                    was = os.stat(self.path)
                    os.fchown(file.fileno(), was.st_uid, was.st_gid)
            os.replace(temporary, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def _entries(content: Any) -> tuple[Entry, ...]:
    if content["version"] != VERSION:
        raise ValueError(f"its version is {content['version']!r}, and this server knows {VERSION}")
    entries = tuple(Entry.of(fields) for fields in content["tokens"])
    if len({entry.name for entry in entries}) < len(entries):
        raise ValueError("a name stands there twice")
    if len(entries) > MAX_TOKENS:
        raise ValueError(f"it has {len(entries)} tokens, more than {MAX_TOKENS}")
    return entries


class Tokens:
    """An Authenticator: who sends one of a file's tokens is its owner."""

    def __init__(self, path: str | Path) -> None:
        """Raises TokenFileError."""
        self._file = TokenFile(path)
        self._stamp = self._file.stamp()
        self._keep(self._file.read())

    def principal(self, metadata: Iterable[tuple[str, str | bytes]]) -> Principal:
        """The caller. Raises UnauthenticatedError."""
        self._renew()
        sent = [value for key, value in metadata if key == "authorization"]
        entry = self._find(_bearer(sent[0])) if len(sent) == 1 else None
        if entry is None or entry.has_expired(time.time()):
            raise UnauthenticatedError(REFUSED)
        return self._principals[entry.name]

    def _find(self, token: str) -> Entry | None:
        """Takes the same time whichever it is, and whether it is one: all are compared, each in constant time."""
        compare, hashed = hmac.compare_digest, hash_of(token)
        found = [*itertools.compress(self._entries, [compare(known, hashed) for known in self._hashes])]
        return found[0] if found else None

    def _keep(self, entries: tuple[Entry, ...]) -> None:
        self._entries = entries
        self._hashes = [entry.sha256 for entry in entries]
        self._principals = {entry.name: entry.principal for entry in entries}

    def _renew(self) -> None:
        stamp = self._file.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keep(self._file.read())
        except TokenFileError as error:
            log.error("the tokens that were read before stay in force: %s", error)  # noqa: TRY400 - it says all
        else:
            log.info("read %d tokens from %s", len(self._entries), self._file.path)


def _bearer(header: str | bytes) -> str:
    """The token of an authorization header; of no use if it has another form."""
    text = header if isinstance(header, str) else header.decode("latin-1")
    kind, _, token = text.partition(" ")
    return token.strip() if kind.lower() == "bearer" and len(text) <= MAX_HEADER else ""
