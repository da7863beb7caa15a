"""What the services over the object graph share: a transaction in the caller's name."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ..graph.calls import context_of
from ..graph.transaction import Transaction
from ..servant import Service

if TYPE_CHECKING:
    from ..call import Call


class GraphService(Service):
    """A stateless service whose operations each run in one transaction."""

    def transaction(self, call: Call, server_side: bool = False) -> AbstractContextManager[Transaction]:
        """The caller's transaction; ``server_side`` checks nothing, for operations that check for themselves."""
        context = context_of(call)
        return self.server.graph.transaction(context.as_server() if server_side else context)
