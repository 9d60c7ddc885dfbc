"""What was refused, and what administrators changed: one line each for those who audit."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kotaemon_grpc.core.errors import PermissionDenied, TlsTooOld, Unauthenticated
from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc
    from structlog.typing import FilteringBoundLogger

    from kotaemon_grpc.auth.policy import Policy
    from kotaemon_grpc.pipeline.call import Call, Method

_WRITES = ("Create", "Delete", "Import", "Update")
"""How the names of methods that change something begin (AIP-133 to AIP-135, AIP-153)."""

_IDS = {"document_id": "documents", "conversation_id": "conversations"}
_MAX_RESOURCE_CHARS = 256

_DENIALS = (Unauthenticated, PermissionDenied, TlsTooOld)


class Audit:
    """The stage."""

    def __init__(self, logger: FilteringBoundLogger, policy: Policy) -> None:
        """Take where the lines go, and what tells who is an administrator.

        Attributes:
            policy: what tells it; may be replaced.
        """
        self.policy = policy
        self._logger = logger

    def observer(self, method: Method) -> _Denials:
        """Make what watches a method."""
        logger = self._logger.bind(
            **{names.KEY_SERVICE: method.service, names.KEY_METHOD: method.name}
        )
        if method.name.startswith(_WRITES):
            return _Writes(logger, self)
        return _Denials(logger)


class _Denials:
    """What may be refused: any method."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        self._logger = logger

    def on_failed(self, call: Call, code: grpc.StatusCode) -> None:
        if isinstance(call.error, _DENIALS):
            if isinstance(call.error, PermissionDenied):
                call.resource = call.resource or call.error.collection
            cause = call.error.cause if isinstance(call.error, Unauthenticated) else ""
            # An auditor wants to know where it came from, all the more if not from whom.
            peer = call.servicer_context.peer()
            more = {names.KEY_CAUSE: cause, names.KEY_PEER: peer}
            self._log(names.EVENT_AUDIT_DENIED, call, code, more)

    def _log(
        self,
        event: str,
        call: Call,
        code: grpc.StatusCode,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._logger.warning(
            event,
            **{
                names.KEY_CODE: code.name,
                names.KEY_REASON: call.reason,
                names.KEY_RESOURCE: call.resource,
                names.KEY_PRINCIPAL: call.principal,
                names.KEY_TENANT: call.tenant,
                names.KEY_CREDENTIAL: call.credential,
                names.KEY_REQUEST_ID: call.request_id,
                names.KEY_TRACE_ID: call.trace_id,
                **more,
            },
        )


class _Writes(_Denials):
    """And what may be changed: a method that does."""

    def __init__(self, logger: FilteringBoundLogger, audit: Audit) -> None:
        super().__init__(logger)
        self._audit = audit

    def on_request(self, call: Call, request: Any) -> None:
        """Note the name of what the first request changes (AIP-122), as the client gave it."""
        if not call.resource:
            call.resource = _name_of(getattr(request, "header", request))[:_MAX_RESOURCE_CHARS]

    def on_end(self, call: Call, code: grpc.StatusCode) -> None:
        is_denied = isinstance(call.error, _DENIALS)
        if call.identity and not is_denied and self._audit.policy.is_audited(call.identity):
            self._log(names.EVENT_AUDIT_WRITE, call, code)


def _name_of(request: Any) -> str:
    """Return the resource name of what a request creates or deletes; its collection without id."""
    name: str = getattr(request, "name", "")
    if name:
        return name
    parent: str = getattr(request, "parent", "")
    for field, kind in _IDS.items():
        resource_id = getattr(request, field, "")
        if resource_id:
            return "/".join(part for part in (parent, kind, resource_id) if part)
    return parent
