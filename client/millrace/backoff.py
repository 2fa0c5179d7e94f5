"""How long to wait before the next try."""

import asyncio
import secrets
from dataclasses import dataclass

_RANDOM = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with jitter.

    The defaults outlast a link that is gone for 20 s (42 s of waiting on average): a train in a tunnel.

    Attributes:
        attempts: tries in all, the first included; at least 1.
        base_s: longest wait after the first failure, in seconds; doubles with each further one.
        cap_s: longest wait of all, in seconds.
    """

    attempts: int = 8
    base_s: float = 0.5
    cap_s: float = 20.0

    def delay_s(self, failures: int, jitter: float) -> float:
        """Seconds to wait after this many failures in a row.

        Half of the wait is fixed, so that a dead link is not hammered; half is spread, so that clients which failed
        together do not come back together.

        Args:
            failures: at least 1.
            jitter: 0 to 1, chosen at random by the caller.
        """
        # The exponent is bounded: 2.0**1024 overflows, and the cap is reached long before.
        longest_s = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 63))
        return longest_s * (0.5 + 0.5 * jitter)

    async def pause(self, failures: int, *, at_least_s: float = 0.0) -> None:
        """Waits `delay_s`, or longer where the server asked for that."""
        await asyncio.sleep(max(self.delay_s(failures, _RANDOM.random()), at_least_s))
