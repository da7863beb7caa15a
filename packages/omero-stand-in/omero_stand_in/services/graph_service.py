"""What the services over the object graph share: a transaction in the caller's name."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import omero
import omero.clients
from omero.rtypes import rlist, rlong, rstring, rtime

from omero_stand_in import errors, hql
from omero_stand_in.context import Call, context_of
from omero_stand_in.graph.permissions import USER_GROUP
from omero_stand_in.graph.transaction import Transaction
from omero_stand_in.servant import Service


class GraphService(Service):
    """A stateless service whose operations each run in one transaction."""

    def transaction(self, call: Call, server_side: bool = False) -> AbstractContextManager[Transaction]:
        """The caller's transaction; ``server_side`` checks nothing, for operations that check for themselves."""
        context = context_of(call)
        if USER_GROUP not in getattr(self.session, "roles", context.member_of):
            raise self.no_role(call, "user")
        return self.server.graph.transaction(context.as_server() if server_side else context)

    def no_role(self, call: Call, role: str) -> Exception:
        """What those get who are not in the group that a service is for."""
        names = ", ".join(str(self.server.accounts.group(group).get("name")) for group in call.member_of)
        return errors.security(
            f"No matching roles found in [{names}] for session {self.session.uuid} (allowed: [{role}])"
        )


def parameters(**values: Any) -> Any:
    """Parameters of a query of the server's own: ids, lists of ids and texts by Python value."""
    given = omero.sys.Parameters()
    given.map = {name: _wrapped(value) for name, value in values.items()}
    return given


def _wrapped(value: Any) -> Any:
    if isinstance(value, (list, tuple, set, frozenset)):
        return rlist([_wrapped(one) for one in value])
    if isinstance(value, str):
        return rstring(value)
    return rlong(value) if isinstance(value, int) else rtime(value) if isinstance(value, float) else value


def find_all(transaction: Transaction, text: str, **values: Any) -> list[Any]:
    """The objects that a query finds, loaded as far as its fetches go; nothing for an empty list."""
    if any(isinstance(value, (list, tuple, set, frozenset)) and not value for value in values.values()):
        return []
    result = hql.run(transaction, text, parameters(**values))
    return [result.loader.map(row[0]) for row in result.rows]
