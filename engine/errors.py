"""Every error the engine raises, in one tree.

    EngineError
      NotFound        SessionNotFound · TurnNotFound · EventNotFound · CheckpointNotFound · NotYet
      Refused         Invalid · UnknownModel · SessionArchived · SessionExpired · SessionFull · EmptyMessage
                      BudgetTooSmall · TooLarge · ToolResultsMissing · ToolCallNotFound · NothingToAnswer · NoExactCount
                      ContentNotSupported · UnknownRenderer
      Conflict        VersionConflict · TurnAlreadyOpen · TurnNotOpen · NoDecisionAwaited · LegalHold
                      IdempotencyMismatch · AlreadyImported
      Erased
      Overloaded      ShuttingDown · CircuitOpen · RateLimited
      TurnLimitReached
      ProviderError   ProviderUnavailable · ProviderRejected · ProviderMalformed · ProviderTooLarge · ProviderTimedOut
                      ProviderTruncated · ContextTooLong
      ToolError
      StoreError      StoreFull · StoreUnavailable · StoreCorrupt · RecordDamaged · StoreForeign · StoreNewer
                      StoreOlder · StoreLocked · SecretMismatch
      AuditError      Broken · ProofInvalid · Behind

``code`` is stable and public: clients branch on it. ``detail`` is a sentence for people, without a key, a path of the
server or an upstream body. ``extra`` are the members that go with the code (``current_version``, ``field`` …).
"""

from __future__ import annotations

import errno
from typing import ClassVar

RETRY_AFTER_S = 5
"""When a caller who was refused for want of room should come again, unless something better is known."""


class EngineError(Exception):
    """The root: a stable code, a sentence, and named members."""

    code: str = "engine_error"

    def __init__(self, detail: str, **extra: object) -> None:
        super().__init__(detail)
        self.detail, self.extra = detail, extra


class NotFound(EngineError):
    """There is no such thing in this tenant's log."""

    code = "not_found"


class SessionNotFound(NotFound):
    code = "session_not_found"


class TurnNotFound(NotFound):
    code = "turn_not_found"


class EventNotFound(NotFound):
    code = "event_not_found"


class CheckpointNotFound(NotFound):
    code = "checkpoint_not_found"


class NotYet(NotFound):
    """At that time the session had not begun; ``created_at`` is when it did."""

    code = "not_yet"


class Refused(EngineError):
    """The request is understood and will not be done; sending it again changes nothing."""

    code = "refused"


class Invalid(Refused):
    """A value is not of the form it must have; ``field`` names it."""

    code = "invalid_value"

    def __init__(self, field: str, detail: str, *, code: str | None = None, **extra: object) -> None:
        super().__init__(f"{field}: {detail}", field=field, **extra)
        self.code = code or self.code


class UnknownModel(Refused):
    """No provider serves this model; ``available`` lists what there is."""

    code = "unknown_model"


class UnknownRenderer(Refused):
    """A recorded request was made by a ``renderer`` that is not here; ``available`` lists what there is."""

    code = "unknown_renderer"


class SessionArchived(Refused):
    code = "session_archived"


class SessionExpired(Refused):
    """The session takes nothing any more since ``expires_at``, until that is set anew."""

    code = "session_expired"


class SessionFull(Refused):
    """The session holds as much as it may; ``limit`` names what bounds it, and ``maximum`` is its value."""

    code = "session_full"


class EmptyMessage(Refused):
    code = "empty_message"


class BudgetTooSmall(Refused):
    """The required messages do not fit the budget: ``required_tokens`` against ``available_tokens``."""

    code = "budget_too_small"


class TooLarge(Refused):
    """Over a named limit; ``limit`` gives its setting and ``maximum`` its value."""

    code = "too_large"


class ToolResultsMissing(Refused):
    """The last assistant message asked for tools, and their results must come next; ``tool_use_ids`` names them."""

    code = "tool_results_missing"


class ToolCallNotFound(Refused):
    """A tool result answers no open call; ``tool_use_id`` names it."""

    code = "tool_call_not_found"


class NoExactCount(Refused):
    code = "no_exact_count"


class ContentNotSupported(Refused):
    """The model cannot take a block that it would be sent; ``block`` names it, ``takes`` says what the model takes."""

    code = "content_not_supported"


class NothingToAnswer(Refused):
    """A turn without content needs a last complete message from user or tool."""

    code = "nothing_to_answer"


class Conflict(EngineError):
    """The record has moved on."""

    code = "conflict"


class VersionConflict(Conflict):
    """The session is not at the version that was expected; ``current_version`` is where it is (0: not begun)."""

    code = "version_conflict"

    def __init__(self, detail: str, *, current_version: int) -> None:
        super().__init__(detail, current_version=current_version)
        self.current_version = current_version


class TurnAlreadyOpen(Conflict):
    """One turn at a time; ``turn_id`` is the open one."""

    code = "turn_already_open"


class TurnNotOpen(Conflict):
    """The turn has ended, or another process owns it now."""

    code = "turn_not_open"


class NoDecisionAwaited(Conflict):
    """The turn does not wait for a decision on this call."""

    code = "no_decision_awaited"


class AlreadyImported(Conflict):
    """The same bundle was taken in before; ``session_id`` names what came of it."""

    code = "already_imported"


class IdempotencyMismatch(Conflict):
    """The same key or event id came before with other words."""

    code = "idempotency_mismatch"


class LegalHold(Conflict):
    """Nothing of the session may be erased while it is held."""

    code = "legal_hold"


class Erased(EngineError):
    """The words are gone, the record is not; ``positions`` names what is erased."""

    code = "erased"


class Overloaded(EngineError):
    """A bound is reached; ``retry_after_s`` says when to come again."""

    code = "overloaded"
    retryable: ClassVar[bool] = True


class ShuttingDown(Overloaded):
    code = "shutting_down"


class CircuitOpen(Overloaded):
    """The provider has failed too often lately, and is left alone for a while."""

    code = "provider_circuit_open"


class RateLimited(Overloaded):
    """A key or a provider has had what it may have in a minute; ``limit`` names the setting."""

    code = "rate_limited"


class TurnLimitReached(EngineError):
    """A turn took more rounds, seconds or tokens than it may; ``limit`` names the setting."""

    code = "turn_limit_reached"


class ProviderError(EngineError):
    """An upstream model failed. Its words (``vendor_code``, ``request_id``, ``upstream``) are for the record."""

    code = "provider_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        vendor_code: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
        upstream: str = "",
        **extra: object,
    ) -> None:
        super().__init__(detail, **extra)
        self.status, self.vendor_code, self.request_id = status, vendor_code, request_id
        self.retry_after_s, self.upstream = retry_after_s, upstream


class ProviderUnavailable(ProviderError):
    """Could not be reached, is overloaded or failed on its side."""

    code = "provider_unavailable"
    retryable = True


class ProviderRejected(ProviderError):
    """Refused the request: credentials, model, content."""

    code = "provider_rejected"


class ContextTooLong(ProviderRejected):
    code = "context_too_long"


class ProviderMalformed(ProviderError):
    """Answered something that is not its protocol."""

    code = "provider_malformed"


class ProviderTooLarge(ProviderError):
    """Answered more than is taken, in all or in one piece; ``limit`` and ``maximum`` say which setting bounds it."""

    code = "provider_too_large"


class ProviderTimedOut(ProviderError):
    code = "provider_timed_out"
    retryable = True


class ProviderTruncated(ProviderError):
    """The stream broke off without its end marker; what came is kept."""

    code = "provider_truncated"
    retryable = True


class ToolError(EngineError):
    code = "tool_error"


class StoreError(EngineError):
    """The database would not do it; nothing was written."""

    code = "store_error"


class StoreFull(StoreError):
    """No room on the disk. Reads go on, and writing resumes when there is room."""

    code = "store_full"


class StoreUnavailable(StoreError):
    code = "store_unavailable"


def is_full(error: OSError) -> bool:
    """True if the system says that a disk is full, or this user's quota is."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


class StoreCorrupt(StoreError):
    code = "store_corrupt"


class RecordDamaged(StoreError):
    """A row's words are not those that were recorded, or are missing; ``position`` names it."""

    code = "record_damaged"

    @classmethod
    def at(cls, position: int) -> RecordDamaged:
        return cls(f"the words of event {position} are not those that were recorded", position=position)


class StoreForeign(StoreError):
    """The file is not a Manent database."""

    code = "store_foreign"


class StoreNewer(StoreError):
    code = "store_newer"


class StoreOlder(StoreError):
    """The database needs ``manent migrate`` before it can be read."""

    code = "store_older"


class StoreLocked(StoreError):
    """Another server holds the file; ``pid`` names it."""

    code = "store_locked"


class SecretMismatch(StoreError):
    """The database names a secret, and its file is missing or holds another."""

    code = "secret_mismatch"


class AuditError(EngineError):
    """The record is not what it should be."""

    code = "audit_error"


class Broken(AuditError):
    """``position`` is the first that is wrong, None where no position can be named; ``tenant`` says in whose log."""

    code = "broken"

    def __init__(self, detail: str, *, tenant: str | None = None, position: int | None = None) -> None:
        super().__init__(detail, tenant=tenant, position=position)
        self.tenant, self.position = tenant, position


class ProofInvalid(AuditError):
    code = "proof_invalid"


class Behind(AuditError):
    """The database is not the one that its checkpoints outside speak of; it is read, and not written."""

    code = "behind"
