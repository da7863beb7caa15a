"""Events as they are stored, and as objects.

biomero reads the same log, and cannot read a run that has an event whose topic it cannot resolve. So an event that
biomero does not have is stored with a topic that it resolves: that of the base class of the aggregate's events, which
changes nothing there. The state then has the name of the event's own class. Events of earlier versions, which were
stored with their own topics, are read too.

Events of newer programs, whose classes are unknown here, are preserved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from eventsourcing.domain import Aggregate, DomainEventProtocol
from eventsourcing.persistence import Mapper, StoredEvent
from eventsourcing.utils import TopicError, get_topic, resolve_topic

#: In the state of an event: the name of its class, if its topic is that of another class.
EVENT_NAME = "event_name"

#: The events that biomero 2.8 has.
_KNOWN_TO_BIOMERO = frozenset({
    "WorkflowInitiated", "TaskAdded", "WorkflowStarted", "WorkflowCompleted", "WorkflowFailed", "TaskCreated",
    "JobIdAdded", "StatusUpdated", "ProgressUpdated", "ResultAdded", "TaskStarted", "TaskCompleted", "TaskFailed",
})  # fmt: skip
#: Events that biomero reads as one of its own; they have the attributes of that one, too.
_READ_AS = {"RunCancelled": "WorkflowFailed"}


def stored_topic(topic: str) -> str:
    """The topic with which an event of the class ``topic`` is stored: one that biomero resolves."""
    aggregate, _, name = topic.rpartition(".")
    return topic if name in _KNOWN_TO_BIOMERO else f"{aggregate}.{_READ_AS.get(name, 'Event')}"


def class_topic(topic: str, state: Mapping[str, Any]) -> str:
    """The topic of the class of an event, from its stored topic and state."""
    name = state.get(EVENT_NAME)
    return topic if name is None else f"{topic.rpartition('.')[0]}.{name}"


class UnknownEvent(Aggregate.Event):
    """An event of a class that is not known here. It changes the version of its aggregate, and nothing else.

    ``topic`` is the topic of its class; the other attributes are those that were stored.
    """

    topic: str

    def apply(self, aggregate: Any) -> None:
        """Change nothing."""


class SharedLogMapper(Mapper[UUID]):
    """A mapper for logs that other programs read and write, too."""

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """The event, with a topic that biomero resolves."""
        state = dict(vars(domain_event))
        own = get_topic(type(domain_event))
        topic = stored_topic(own)
        if topic != own:
            state[EVENT_NAME] = own.rpartition(".")[2]
        subject, version = state.pop("originator_id"), state.pop("originator_version")
        return StoredEvent(subject, version, topic, self.transcoder.encode(state))

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """The event, or an `UnknownEvent`."""
        state = self.transcoder.decode(stored_event.state)
        topic = class_topic(stored_event.topic, state)
        state.pop(EVENT_NAME, None)
        state |= {"originator_id": stored_event.originator_id, "originator_version": stored_event.originator_version}
        try:
            kind = resolve_topic(topic)
        except TopicError:
            kind = UnknownEvent
            state["topic"] = topic
        event: DomainEventProtocol[UUID] = object.__new__(kind)
        event.__dict__.update(state)
        return event
