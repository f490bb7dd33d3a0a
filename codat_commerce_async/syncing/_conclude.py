"""Conclude from what was found at Codat why a sync failed; this module sends no requests."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime

from attrs import evolve, frozen

from codat_commerce_async import errors
from codat_commerce_async.models.causes import FailureCause
from codat_commerce_async.models.configuration import Configuration
from codat_commerce_async.models.configuration_changes import ConfigurationProblem, configuration_problems
from codat_commerce_async.models.connections import Connection
from codat_commerce_async.models.enums import ConnectionStatus, SourceType
from codat_commerce_async.models.failure_rules import (
    Resolver,
    Retry,
    Rule,
    rule_for_code,
    rule_for_message,
    rule_of,
)
from codat_commerce_async.models.sync import BaseSyncStatus
from codat_commerce_async.syncing.diagnosis import Action, Diagnosis, Evidence

__all__ = ["Facts", "conclude", "conclude_from_error", "rule_of_status"]

_CONFIGURATION_ERROR = 4000
_UNAVAILABLE = frozenset({4040, 4220})
_KINDS = (SourceType.ACCOUNTING, SourceType.COMMERCE)


@frozen(kw_only=True)
class Facts:
    """What is known about a failed sync; None is what was not requested, or could not be.

    `push_operations` and `pull_operations` are those that failed since the sync began, and `syncs` are the other syncs
    of its time.
    """

    company_id: str
    sync_id: str | None
    status: BaseSyncStatus
    is_company_missing: bool = False
    connections: tuple[Connection, ...] | None = None
    configuration: Configuration | None = None
    push_operations: tuple[Evidence, ...] = ()
    pull_operations: tuple[Evidence, ...] = ()
    syncs: tuple[Evidence, ...] = ()
    unchecked: tuple[str, ...] = ()
    requests: int = 0

    @property
    def problems(self) -> tuple[ConfigurationProblem, ...]:
        """The problems of the configuration, as far as it is known."""
        return () if self.configuration is None else configuration_problems(self.configuration)


def rule_of_status(status: BaseSyncStatus) -> Rule:
    """Return the rule that the status alone suggests; that for unknown causes if its message is not documented."""
    by_message, by_code = rule_for_message(_message(status)), rule_for_code(status.sync_status_code)
    return by_message or by_code or rule_of(FailureCause.UNKNOWN)


def conclude(facts: Facts) -> Diagnosis:
    """Return the diagnosis."""
    rules = _rules(facts)
    code = facts.status.sync_status_code
    return Diagnosis(
        company_id=facts.company_id,
        sync_id=facts.sync_id,
        code=code,
        cause=rules[0].cause,
        summary=_summary(facts, rules[0]),
        actions=tuple(dict.fromkeys(action for rule in rules for action in _actions(facts, rule))),
        retry=rules[0].retry,
        evidence=tuple(_evidence(facts)),
        unchecked=facts.unchecked,
        requests=facts.requests,
    )


def _rules(facts: Facts) -> list[Rule]:
    """Return the rules of the cause and of further ones, the most important first."""
    rule = rule_of_status(facts.status)
    code = facts.status.sync_status_code
    if facts.is_company_missing and rule.cause is not FailureCause.COMPANY_NOT_FOUND:
        return [rule_of(FailureCause.DELETED_COMPANY)]
    if code in _UNAVAILABLE and rule is rule_for_code(code):
        return [_unavailable(facts, rule)]
    if rule.cause is FailureCause.UNKNOWN and code == _CONFIGURATION_ERROR:
        return _configuration_rules(facts) or [rule]
    if rule.cause is FailureCause.ITEMS_NOT_WRITTEN:
        return _item_rules(facts, rule)
    return [rule]


def _unavailable(facts: Facts, rule: Rule) -> Rule:
    """Return the rule of a code that stands for a deleted and for a de-authorized company: its connections decide."""
    is_deauthorized = any(each.status is ConnectionStatus.DEAUTHORIZED for each in facts.connections or ())
    return rule_of(FailureCause.DEAUTHORIZED_COMPANY) if is_deauthorized else rule


def _configuration_rules(facts: Facts) -> list[Rule]:
    """Find the causes of a configuration error without a documented message."""
    causes: list[FailureCause] = []
    if facts.configuration is not None and facts.configuration.enable is False:
        causes.append(FailureCause.SYNC_DISABLED)
    if facts.connections is not None and _connection_actions(facts.connections):
        causes.append(FailureCause.UNLINKED_CONNECTION)
    causes += [problem.cause for problem in facts.problems]
    return [rule_of(cause) for cause in dict.fromkeys(causes)]


def _item_rules(facts: Facts, rule: Rule) -> list[Rule]:
    """Find what the push operations report; the most frequent comes first, and `rule` is for those not understood."""
    counts: Counter[FailureCause] = Counter()
    for operation in facts.push_operations:
        found = next(filter(None, map(rule_for_message, _texts(operation))), rule)
        counts[found.cause] += 1
    return [rule_of(cause) for cause, _ in counts.most_common()] or [rule]


def _texts(operation: Evidence) -> Iterator[str | None]:
    yield from (item.message for item in operation.items)
    yield operation.message


def _summary(facts: Facts, rule: Rule) -> str:
    code = facts.status.sync_status_code
    failed = "the sync failed" if code is None else f"the sync failed with code {code}"
    details = [problem.name for problem in facts.problems if problem.cause is rule.cause]
    return f"{failed}: {rule.cause.description}" + (f" ({', '.join(details)})" if details else "")


def _actions(facts: Facts, rule: Rule) -> list[Action]:
    """Return the concrete actions if the facts show them, otherwise those of the rule."""
    connections = facts.connections or ()
    if rule.cause is FailureCause.UNLINKED_CONNECTION and facts.connections is not None:
        found = _connection_actions(connections)
    elif rule.cause is FailureCause.DEAUTHORIZED_COMPANY:
        found = [_link(each) for each in connections if each.status is ConnectionStatus.DEAUTHORIZED]
    elif rule.fix is not None:
        problems = [problem for problem in facts.problems if problem.cause is rule.cause]
        found = [Action(resolver=Resolver.INTEGRATOR, text=each.action, path=each.path) for each in problems]
    else:
        found = []
    return found or [Action(resolver=resolver, text=text) for resolver, text in rule.actions]


def _connection_actions(connections: Sequence[Connection]) -> list[Action]:
    """Return what leads to exactly one linked connection of each kind."""
    actions: list[Action] = []
    for kind in _KINDS:
        of_kind = [each for each in connections if each.source_type == kind]
        linked = [each for each in of_kind if each.is_linked]
        if len(linked) > 1:
            ids = ", ".join(each.id for each in linked)
            text = f"unlink all but one of the {len(linked)} linked {kind.value.lower()} connections ({ids})"
            actions.append(Action(resolver=Resolver.INTEGRATOR, text=text))
        elif not linked and of_kind:
            actions.append(_link(of_kind[-1]))
        elif not linked:
            text = f"link a platform of the kind {kind.value.lower()} in the Sync flow; there is no such connection"
            actions.append(Action(resolver=Resolver.MERCHANT, text=text))
    return actions


def _link(connection: Connection) -> Action:
    platform = connection.platform_name or connection.integration_key or "its platform"
    text = f"link {platform} again in the Sync flow; connection {connection.id} is {connection.status or 'not linked'}"
    return Action(resolver=Resolver.MERCHANT, text=text)


def _evidence(facts: Facts) -> Iterator[Evidence]:
    status = facts.status
    code = None if status.sync_status_code is None else str(status.sync_status_code)
    yield Evidence(
        kind="status", id=facts.sync_id, status=code, message=_message(status) or None, requested_at=status.sync_utc
    )
    for connection in facts.connections or ():
        if not connection.is_linked:
            yield _of_connection(connection)
    for problem in facts.problems:
        yield Evidence(kind="configuration", id=problem.path, message=problem.message)
    if facts.configuration is not None and facts.configuration.enable is False:
        yield Evidence(kind="configuration", id="enable", message="syncs are turned off")
    yield from (*facts.push_operations, *facts.pull_operations, *facts.syncs)


def _of_connection(connection: Connection) -> Evidence:
    newest = max(connection.data_connection_errors, key=lambda each: str(each.errored_on_utc or ""), default=None)
    message = None if newest is None else newest.error_message or newest.status_text
    return Evidence(
        kind="connection",
        id=connection.id,
        status=connection.status,
        message=message,
        data_type=connection.platform_name,
        completed_at=None if newest is None else newest.errored_on_utc,
    )


def _message(status: BaseSyncStatus) -> str:
    texts = (status.error_message, status.sync_exception_message)
    return " ".join(dict.fromkeys(text for text in texts if text))


_INTEGRATOR, _CODAT, _NOBODY = Resolver.INTEGRATOR, Resolver.CODAT, Resolver.NOBODY

# Who has to do what about an error; the first class that fits counts. Errors of other classes are in `_action_on`.
_ACTIONS: tuple[tuple[type[errors.CodatError], Resolver, str], ...] = (
    (errors.OutcomeUnknownError, _INTEGRATOR, "list the company's syncs to see whether it began"),
    (errors.SyncWaitTimeoutError, _INTEGRATOR, "wait for the handle again; the sync continues at Codat"),
    (errors.QuotaExhaustedError, _NOBODY, "start it again after the reset of the daily quota"),
    (errors.PaymentRequiredError, _INTEGRATOR, "renew or extend the account at Codat"),
    (errors.ServerError, _CODAT, "if it fails again, give support the correlation id"),
    (errors.TransportError, _INTEGRATOR, "check the network between you and Codat"),
)


def conclude_from_error(company_id: str, sync_id: str | None, error: errors.CodatError) -> Diagnosis:
    """Return the diagnosis of a sync that could not be started or polled, and therefore has no status."""
    evidence = Evidence(
        kind="error", id=getattr(error, "correlation_id", None), status=type(error).__name__, message=error.message
    )
    diagnosis = Diagnosis(
        company_id=company_id,
        sync_id=sync_id,
        cause=FailureCause.UNKNOWN,
        summary=f"the sync has no status: {error.message}",
        evidence=(evidence,),
    )
    if isinstance(error, errors.NotFoundError):
        rule = rule_of(FailureCause.COMPANY_NOT_FOUND)
        actions = tuple(Action(resolver=resolver, text=text) for resolver, text in rule.actions)
        return evolve(diagnosis, cause=rule.cause, retry=rule.retry, actions=actions)
    return evolve(diagnosis, retry=_retry_after(error), retry_at=_reset(error), actions=(_action_on(error),))


def _retry_after(error: errors.CodatError) -> Retry:
    if isinstance(error, errors.SyncWaitTimeoutError):
        return Retry.NEVER
    return Retry.LATER if error.retryable else Retry.AFTER_ACTION


def _action_on(error: errors.CodatError) -> Action:
    for cls, resolver, text in _ACTIONS:
        if isinstance(error, cls):
            return Action(resolver=resolver, text=text)
    if error.retryable:
        return Action(resolver=_NOBODY, text="start it again later")
    return Action(resolver=_INTEGRATOR, text="correct what the error names")


def _reset(error: errors.CodatError) -> datetime | None:
    return getattr(error, "reset_at", None)
