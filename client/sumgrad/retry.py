"""How often, and after which pauses, a call is sent again."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ResourceExhaustedError, ServiceError

__all__ = ["DEFAULT_RETRY", "Retry"]


@dataclass(frozen=True)
class Retry:
    """How often, and with which pauses, a call that found the service unavailable is sent again.

    The pause after attempt k is drawn evenly between 0 and min(longest, first * 2^(k - 1)) seconds ("full jitter": Brooker, "Exponential
    Backoff And Jitter", AWS Architecture Blog, 2015), so that clients that lost the same server don't come back all at once.
    """

    attempts: int = 7
    first: float = 0.1
    longest: float = 5.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first <= 0.0 or self.longest < self.first:
            raise ValueError(f"need attempts >= 1 and 0 < first <= longest, not {self}")

    def pause(self, attempt: int, draw: float, error: ServiceError) -> float | None:
        """Seconds to wait after attempt number `attempt` (from 1) met this error, given a draw from [0, 1); None to give up.

        A server that is full is asked again only if it says after which time, and not before that.
        """
        at_least = error.retry_after if isinstance(error, ResourceExhaustedError) else 0.0
        if attempt >= self.attempts or at_least is None:
            return None
        return at_least + draw * min(self.longest, self.first * 2.0 ** (attempt - 1))


DEFAULT_RETRY = Retry()
"""Seven attempts, over at most six seconds and what the calls take."""
