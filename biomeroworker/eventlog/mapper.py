"""Stored events as objects; events of newer programs, whose classes are unknown here, are preserved."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from eventsourcing.domain import Aggregate, DomainEventProtocol
from eventsourcing.persistence import Mapper, StoredEvent
from eventsourcing.utils import TopicError


class UnknownEvent(Aggregate.Event):
    """An event of a class that is not known here. It changes the version of its aggregate, and nothing else.

    ``topic`` is the stored topic; the other attributes are those that were stored.
    """

    topic: str

    def apply(self, aggregate: Any) -> None:
        """Change nothing."""


class TolerantMapper(Mapper[UUID]):
    """A mapper for logs that other programs write, too."""

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """The event, or an `UnknownEvent`."""
        try:
            return super().to_domain_event(stored_event)
        except TopicError:
            event = object.__new__(UnknownEvent)
            event.__dict__.update(
                self.transcoder.decode(stored_event.state),
                originator_id=stored_event.originator_id,
                originator_version=stored_event.originator_version,
                topic=stored_event.topic,
            )
            return event
