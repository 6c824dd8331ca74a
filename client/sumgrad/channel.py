"""What a connection to a server is made with: the address it may have, the channel's options, its errors."""

from __future__ import annotations

import inspect
import ipaddress
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import grpc

from .errors import ServiceError
from .status import from_status

Made = TypeVar("Made", bound=Callable[..., Any])

_GIB = 1 << 30

MAX_MESSAGE_BYTES = 1 << 28
"""The server's own limit. A larger message would keep all others waiting while it arrives; that is what datasets are for."""
KEEPALIVE_MS = 10_000
FIRST_RECONNECT_MS, LONGEST_RECONNECT_MS = 200, 2000
"""Pauses before a lost connection is tried again. gRPC's own grow to two minutes, and calls fail at once until then: longer than leases are."""
CONNECT_MS = 5_000
"""How long one try to connect may take."""


def checked_address(address: str, *, insecure: bool) -> str:
    """The address, if such a channel may go there: an unencrypted one to this machine, or anywhere with insecure=True. ValueError otherwise."""
    if not address or (":" not in address):
        raise ValueError(f'{address!r} is no address: give "host:port", "[::1]:port" or "unix:/path"')
    port = address.rpartition(":")[2]
    if not address.startswith("unix:") and not (port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"{address!r}: the port must be a number from 1 to 65535, not {port!r}")
    if not insecure and not is_loopback(address):
        raise ValueError(
            f"{address} is another machine, and what goes there would be open to all on the way: pass tls (see sg.TLS), "
            "or insecure=True if the network between is yours alone"
        )
    return address


def is_loopback(address: str) -> bool:
    """Whether "host:port" or "unix:path" is on this machine for certain. Host names other than localhost are not looked up."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def channel_options(max_message_bytes: int) -> list[tuple[str, int | str]]:
    """The options of both kinds of channel."""
    if not 0 < max_message_bytes <= _GIB:
        raise ValueError(f"max_message_bytes must lie in 1..2**30, not {max_message_bytes}")
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        # The client retries by itself, keyed by request id: gRPC's own retries are for messages up to 256 KiB only.
        ("grpc.enable_retries", 0),
        # A host that is cut off, or has stopped, is noticed while calls wait for it; without this, by their deadlines only.
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_MS // 2),
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_MS // 2),  # the one that is looked at while there are calls; a minute otherwise
        # A server that comes back is found soon: gRPC would let up to two minutes pass, and leases run out.
        ("grpc.initial_reconnect_backoff_ms", FIRST_RECONNECT_MS),
        ("grpc.min_reconnect_backoff_ms", CONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", LONGEST_RECONNECT_MS),
        # A proxy from the environment is for the web, not for this.
        ("grpc.enable_http_proxy", 0),
    ]


def error_of(refused: grpc.RpcError) -> ServiceError:
    """The error of ours for one of gRPC's, blocking or asyncio."""
    trailer = cast("Iterable[tuple[str, bytes]]", refused.trailing_metadata() or ())
    details = next((value for key, value in trailer if key == "grpc-status-details-bin"), None)
    code, said = refused.code(), refused.details() or ""
    if details is None:
        said = _explained(said)
        if code is grpc.StatusCode.CANCELLED or any(sign in said for sign in _BROKEN.get(code, ())):
            code = grpc.StatusCode.UNAVAILABLE  # gRPC's words, not the service's: the connection ended while the call was on its way
    return from_status(code.value[0], said, details)


_BROKEN = {
    grpc.StatusCode.INTERNAL: ("from Core", "RST_STREAM"),
    grpc.StatusCode.UNKNOWN: ("http2 header with status: 502", "http2 header with status: 503", "http2 header with status: 504"),
}
"""What gRPC says if the connection breaks, here or between a proxy and the server."""
_SIGNS = {
    "CERTIFICATE_VERIFY_FAILED": "the server's certificate is not one of an authority that tls trusts: give its authority with tls=sg.TLS(ca=...)",
    "Hostname Verification": "the server's certificate is for another name than the one in the address: use that name, or sg.TLS(server_name=...)",
    "TLSV1_ALERT": "the server did not take this end's certificate: it asks for one of its own authorities, sg.TLS(cert=..., key=...)",
    "WRONG_VERSION_NUMBER": "the server does not speak TLS: connect with tls=False, if it should not",
    "larger than max": "the message is larger than both ends take: upload the data as a dataset, or raise max_message_bytes here and at the server",
    "socket closed": "if the server speaks TLS and this end does not, pass tls; or the server asks for a certificate of this end",
}
"""What gRPC says of a connection that did not come about or of a message that is too large, and what to look at."""


def _explained(said: str) -> str:
    """GRPC's words with what they mean, where that is known."""
    advice = next((text for sign, text in _SIGNS.items() if sign.lower() in said.lower()), None)
    return f"{advice} ({said})" if advice else said


def shown_signature(method: Made) -> Made:
    """The method with a signature that says what it answers, rather than the generator that the protocol has."""
    signature = inspect.signature(method)
    answer = str(signature.return_annotation).removeprefix("Steps[").removesuffix("]")
    method.__signature__ = signature.replace(return_annotation=answer)  # type: ignore[attr-defined]
    return method
