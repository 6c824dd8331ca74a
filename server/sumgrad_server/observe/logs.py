"""Logs on stderr, as text for people or as one JSON object a line for machines.

What clients send (ids, names in messages) may hold anything: control characters are escaped, so that nobody writes lines of his own.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from ..settings import LogFormat, LogLevel

if TYPE_CHECKING:
    from ..rpc import Finished  # with gRPC, which takes long to load and may be missing; logging begins before

log = logging.getLogger(__name__)

LINES_A_SECOND = 50
"""Refused calls that get a line of their own; beyond it they are counted: a flood of bad requests must not become one of writing."""

FIELDS = "fields"
"""Where a record carries what is more than text: `log.info("...", extra={FIELDS: {...}})`."""

_CONTROL: Mapping[int, str] = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {0x2028: "\\u2028", 0x2029: "\\u2029"}


class TextFormatter(logging.Formatter):
    """`TIME LEVEL LOGGER: MESSAGE name=value ...`, and below it the traceback if there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        """UTC, ISO 8601, in milliseconds."""
        return _time(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """One line, whatever the message holds."""
        fields = "".join(f" {name}={value}" for name, value in getattr(record, FIELDS, {}).items())
        return _printable(super().formatMessage(record) + fields)


class JsonFormatter(logging.Formatter):
    """One object with time, level, logger, message, the record's fields, and `exception` if there is one; ASCII alone."""

    def format(self, record: logging.LogRecord) -> str:
        """The object, as one line."""
        said: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        said |= {name: value for name, value in getattr(record, FIELDS, {}).items() if name not in said}
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _printable(text: str) -> str:
    return text.translate(_CONTROL).encode(errors="backslashreplace").decode()


def configure(log_format: LogFormat, log_level: LogLevel, stream: TextIO | None = None) -> None:
    """Lets all logging of this process go to a stream (stderr if None is given) in one of the formats."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=log_level.upper(), force=True)
    logging.captureWarnings(capture=stream is None)
    if log_level == "debug":  # of sumgrad: what asyncio and the HTTP library do is of no interest
        logging.getLogger().setLevel(logging.INFO)
        logging.getLogger("sumgrad_server").setLevel(logging.DEBUG)


class CallLog:
    """A line for each call that ended: at debug for those that went well, at info for the others. An Observer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._second = -1
        self._lines = 0

    def call_began(self, method: str) -> None:
        """A call has come."""

    def call_ended(self, call: Finished) -> None:
        """It is over."""
        level = logging.DEBUG if call.status == "OK" else logging.INFO
        if log.isEnabledFor(level) and (call.status == "OK" or self._may_write()):
            log.log(level, "%s ended with %s", call.method, call.status, extra={FIELDS: fields_of(call)})

    def _may_write(self) -> bool:
        second = int(self._clock())
        if second != self._second:
            if self._lines > LINES_A_SECOND:
                log.info("%d more calls ended with errors in that second", self._lines - LINES_A_SECOND)
            self._second, self._lines = second, 0
        self._lines += 1
        return self._lines <= LINES_A_SECOND


def fields_of(call: Finished) -> dict[str, Any]:
    """What is known of a call, by name; what is empty is left out. `error` is what was wrong."""
    known = {
        "method": call.method,
        "status": call.status,
        "seconds": round(call.seconds, 6),
        "request_id": call.request_id,
        "caller": call.caller,
        "received_bytes": call.received_bytes,
        "sent_bytes": call.sent_bytes,
        "error": call.message,
        "traceparent": call.trace.get("traceparent", ""),
    }
    return {name: value for name, value in known.items() if value != ""}
