"""Where an unencrypted connection may go, and how a server that does not start is explained."""

from __future__ import annotations

import grpc
import pytest
import sumgrad as sg
from sumgrad.channel import channel_options, checked_address, error_of
from sumgrad.launch import _why


@pytest.mark.parametrize("address", ["localhost:1", "127.0.0.1:50051", "127.9.9.9:1", "[::1]:50051", "unix:/tmp/socket"])
def test_this_machine_is_fine(address: str) -> None:
    """Loopback addresses and sockets in the file system need no permission."""
    assert checked_address(address, insecure=False) == address


@pytest.mark.parametrize(
    "address", ["10.0.0.1:50051", "gradients.example.org:50051", "0.0.0.0:50051", "[2001:db8::1]:1", "localhost.evil.org:1"]
)
def test_other_machines_need_permission(address: str) -> None:
    """Any other address is refused until the caller says insecure=True."""
    with pytest.raises(ValueError, match="insecure=True"):
        sg.connect(address)
    assert checked_address(address, insecure=True) == address


@pytest.mark.parametrize("address", ["", "localhost", "50051"])
def test_no_address(address: str) -> None:
    """What has no port is not an address."""
    with pytest.raises(ValueError, match="no address"):
        checked_address(address, insecure=True)


def test_message_limits() -> None:
    """Both directions get the same limit; gRPC has none above 1 GiB that works."""
    options = dict(channel_options(1 << 20))
    assert options["grpc.max_send_message_length"] == options["grpc.max_receive_message_length"] == 1 << 20
    with pytest.raises(ValueError, match="max_message_bytes"):
        channel_options(1 << 31)


def test_lost_connections_are_tried_again_soon() -> None:
    """gRPC's own pauses grow to two minutes: longer than the seat of a run's member is kept."""
    assert dict(channel_options(1 << 20))["grpc.max_reconnect_backoff_ms"] == 2000


def test_missing_package_comes_with_the_cure() -> None:
    """A server that lacks a package says how to install it."""
    said = "Traceback (most recent call last):\n  ...\nModuleNotFoundError: No module named 'scipy.special'"
    assert (
        _why(said, 1) == "the server needs 'scipy.special', which is not installed here. Install it with: pip install \"sumgrad[server]\""
    )


def test_other_ends_are_quoted() -> None:
    """A server that ends for another reason is quoted."""
    assert "exit code 3" in _why("disk full", 3)
    assert "disk full" in _why("disk full", 3)


def test_server_needs_a_worker() -> None:
    """No workers is not a server."""
    with pytest.raises(ValueError, match="at least one worker"):
        sg.local(workers=0)


class Refused(grpc.RpcError):
    """What gRPC says of a call that failed, without details of the service."""

    def __init__(self, code: grpc.StatusCode, said: str) -> None:
        super().__init__()
        self._code, self._said = code, said

    def code(self) -> grpc.StatusCode:
        """The status."""
        return self._code

    def details(self) -> str:
        """The message."""
        return self._said

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        """Nothing."""
        return ()


@pytest.mark.parametrize(
    ("code", "said", "kind"),
    [
        (grpc.StatusCode.CANCELLED, "CANCELLED", sg.UnavailableError),
        (grpc.StatusCode.INTERNAL, "Internal error from Core", sg.UnavailableError),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2", sg.UnavailableError),
        (grpc.StatusCode.UNKNOWN, "Received http2 header with status: 504", sg.UnavailableError),
        (grpc.StatusCode.INTERNAL, "something else", sg.InternalError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (300 vs. 200)", sg.ResourceExhaustedError),
    ],
)
def test_what_grpc_says_by_itself(code: grpc.StatusCode, said: str, kind: type[sg.ServiceError]) -> None:
    """A call that crosses the end of a server is CANCELLED by gRPC, not by anybody: it counts as unavailable, and is tried again."""
    error = error_of(Refused(code, said))
    assert type(error) is kind
    assert said in str(error)
    assert "upload" in str(error) or kind is not sg.ResourceExhaustedError
