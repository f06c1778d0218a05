"""Retries: when a failed attempt is repeated, and with which model. An attempt is retried only if nothing of its answer
was shown.
"""

from __future__ import annotations

import copy

import msgspec

from ..clock import Clock
from ..context.plan import PlannedRound
from ..errors import Overloaded, ProviderError
from ..providers.resilience import next_delay_s
from ..sessions.turn_commands import AttemptResult
from ..sessions.turn_decisions import retry_after_s
from ..settings import Settings

_ITS_OWN_FAULT = frozenset({400, 413, 422})
"""HTTP statuses that blame the request: another model would most likely refuse it too."""
_FINAL = _ITS_OWN_FAULT | {404}
"""HTTP statuses that the same request would get again, whatever else is said of it."""


class NextAttempt(msgspec.Struct, frozen=True):
    """The next attempt, after a delay; ``fallback``: at the fallback model."""

    delay_s: float
    fallback: bool = False


class RetryPolicy:
    """The retry policy of one round: ``max_attempts`` for each model, all begun within ``retry_for_s``."""

    def __init__(self, settings: Settings, clock: Clock, *, has_fallback: bool) -> None:
        self._settings = settings
        self._clock = clock
        self._begun_s = clock.monotonic_s()
        self._made = 0
        self._fallback_left = has_fallback

    def next_attempt(self, result: AttemptResult, left_s: float) -> NextAttempt | None:
        """Decide on a retry after one more attempt; None: its failure stands. ``left_s``: the seconds that are left to
        the turn.
        """
        self._made += 1
        error = _failure_of(result)
        if error is None:
            return None
        # With a fallback model there is no wait for a provider that is overloaded or whose circuit breaker is open.
        same = None if self._fallback_left and isinstance(error, Overloaded) else self._same_model(error, left_s)
        if same is None and self._fallback_left and _is_for_another(result):
            self._fallback_left, self._made = False, 0
            return NextAttempt(0.0, fallback=True)
        return same

    def _same_model(self, error: ProviderError | Overloaded, left_s: float) -> NextAttempt | None:
        settings = self._settings
        if self._made >= settings.max_attempts or not error.retryable or getattr(error, "status", None) in _FINAL:
            return None
        waited_s = self._clock.monotonic_s() - self._begun_s
        delay_s = next_delay_s(
            self._made,
            base_s=settings.retry_base_ms / 1000,
            cap_s=settings.retry_cap_s,
            jitter=self._clock.salts(1)[0][0] / 256,
            left_s=min(left_s, settings.retry_for_s - waited_s),
            retry_after_s=retry_after_s(error),
        )
        return None if delay_s is None else NextAttempt(delay_s)


def told_of_fallback(result: AttemptResult, planned: PlannedRound) -> AttemptResult:
    """Add to a failure with which the fallback model would have been asked why it cannot be."""
    plan = planned.request_plan
    if plan.fallback_name is None or plan.fallback_for(planned) is not None or not _is_for_another(result):
        return result
    error = copy.copy(result.error)
    assert error is not None
    why = plan.why_no_fallback(planned)
    error.detail = f"{error.detail}; the fallback model {plan.fallback_name} {why}"
    return msgspec.structs.replace(result, error=error)


def _is_for_another(result: AttemptResult) -> bool:
    """True if the fallback model may answer in place of the one that failed: nothing of an answer came, and the request
    is not to blame.
    """
    error = _failure_of(result)
    return error is not None and getattr(error, "status", None) not in _ITS_OWN_FAULT


def _failure_of(result: AttemptResult) -> ProviderError | Overloaded | None:
    """The failure of a provider of whose answer nothing was shown; None for any other result."""
    if result.stop is not None or result.message is not None:
        return None
    return result.error if isinstance(result.error, ProviderError | Overloaded) else None
