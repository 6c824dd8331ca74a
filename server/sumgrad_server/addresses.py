"""What the server may listen on: other machines reach it only through encryption and with tokens, unless it is told otherwise."""

from __future__ import annotations

import ipaddress

from .settings import Settings


def is_loopback(address: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    if address.startswith("unix:"):
        return True
    try:
        return host_of(address) == "localhost" or ipaddress.ip_address(host_of(address)).is_loopback
    except ValueError:
        return False


def host_of(address: str) -> str:
    """The host of "host:port", without the brackets of an IPv6 address."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")


def check_address(setting: str, address: str) -> None:
    """Raises ValueError unless this is "host:port" or "unix:path": gRPC would take a port modulo 65536."""
    host, _, port = address.rpartition(":")
    if address.startswith("unix:"):
        if not address.removeprefix("unix:"):
            raise ValueError(f"{setting} {address} is none: give unix:path")
    elif not (host and port.isdecimal() and int(port) < 65536):
        raise ValueError(f"{setting} {address} is none: give host:port, with a port from 0 (any that is free) to 65535")


def check_exposure(setting: str, address: str, settings: Settings) -> None:
    """Raises ValueError if other machines would reach this address without TLS and tokens, and nobody said that they may."""
    if settings.insecure or is_loopback(address):
        return
    lacking = [what for what, given in (("TLS (--tls-cert and --tls-key)", settings.tls_cert), ("--tokens", settings.tokens)) if not given]
    if lacking:
        raise ValueError(
            f"{setting} {address} can be reached from other machines, which needs {' and '.join(lacking)}: "
            "give that, or listen on 127.0.0.1, or add --insecure if the network is yours alone"
        )
