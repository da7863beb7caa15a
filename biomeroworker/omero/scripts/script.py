"""The frame of an OMERO script: declare its parameters, run it, and report its end to OMERO.

A script that OMERO only wants to describe ends in `execute`, before its action: packages that the dialog does not need
are imported by the action.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import omero
import omero.clients
import omero.scripts
from omero.constants.namespaces import NSDYNAMIC
from omero.rtypes import robject, rstring

import biomeroworker
from biomeroworker.domain.constants import LIVE_CHOICES
from biomeroworker.errors import BiomeroWorkerError, RequestRejected, classify
from biomeroworker.omero.connection.session import OmeroSession

#: Characters of a message that OMERO.web shows in full; the whole text is in the script's output.
MESSAGE_CHARACTERS = 4000


class Account(NamedTuple):
    """The OMERO user who runs the script, and the current group."""

    user: int
    user_name: str
    group: int
    group_name: str
    is_admin: bool


class Script:
    """A running script: its inputs, its user, and its outputs."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.account = account_of(client)
        self.inputs: dict[str, Any] = client.getInputs(unwrap=True)
        #: The last message.
        self.shown = ""

    @property
    def by(self) -> str:
        """The user as the event log names who requested something."""
        return f"{self.account.user_name} in OMERO"

    def report(self, message: str) -> None:
        """Print a message, and show it in OMERO.web."""
        if message == self.shown:
            return
        self.shown = message
        print(message, flush=True)
        # a message that does not reach OMERO must not end the script
        with contextlib.suppress(Exception):
            self.client.setOutput("Message", rstring(message[:MESSAGE_CHARACTERS]))

    def output(self, name: str, kind: str, number: int) -> None:
        """Give an object (``Dataset``, ``FileAnnotation``) to OMERO.web, which shows a link to it."""
        with contextlib.suppress(omero.ServerError):
            context = {"omero.group": "-1"}
            self.client.setOutput(name, robject(self.client.sf.getQueryService().get(kind, number, context)))

    @contextlib.contextmanager
    def session(self) -> Iterator[OmeroSession]:
        """A session of the script's user in its group, on a connection of its own."""
        with OmeroSession(self.client.createClient(True), end=False) as session:
            yield session


def account_of(client: Any) -> Account:
    """The user of a connected client."""
    context = client.sf.getAdminService().getEventContext()
    return Account(context.userId, context.userName, context.groupId, context.groupName, context.isAdmin)


def current_account() -> Account:
    """The user who opens the dialog or runs the script, before any parameter is declared."""
    client = omero.client()
    try:
        client.createSession().detachOnDestroy()
        return account_of(client)
    finally:
        client.closeSession()


def execute(
    name: str,
    description: str,
    parameters: Sequence[Any],
    action: Callable[[Script], str],
    *,
    admins_only: bool = False,
    live_choices: bool = False,
) -> None:
    """Declare the parameters (for a dialog the script ends here), then run ``action``.

    Parameters
    ----------
    action
        Returns the final message. An error of this package ends the script with its text and its hint; another error
        also prints where it occurred.
    admins_only
        Refuse all users who are not administrators of OMERO.
    live_choices
        The choices change often: our Processor does not show older ones from its cache.
    """
    client = omero.scripts.client(
        name,
        description,
        *parameters,
        omero.scripts.String("Message").out(),
        namespaces=[NSDYNAMIC, *([LIVE_CHOICES] if live_choices else [])],
        version=biomeroworker.__version__,
        authors=["biomeroworker"],
        institutions=[],
    )
    try:
        script = Script(client)
        try:
            if admins_only and not script.account.is_admin:
                raise RequestRejected(
                    f"only administrators of OMERO may run {name!r}, and {script.account.user_name} is not one: an"
                    " administrator must run it"
                )
            script.report(action(script))
        except Exception as error:
            if not isinstance(error, BiomeroWorkerError):
                traceback.print_exc()
            script.report(failure(error))
            sys.exit(1)
    finally:
        client.closeSession()


def switch(name: str, grouping: str, default: bool, description: str) -> Any:
    """A field to tick."""
    return omero.scripts.Bool(name, optional=True, grouping=grouping, default=default, description=description)


def failure(error: Exception) -> str:
    """The message for an error: what failed, its evidence, and the next step."""
    fault = classify(error)
    lines = [f"FAILED: {fault}", *([fault.detail] if fault.detail else [])]
    return "\n".join([*lines, f"Next: {fault.hint}"] if fault.hint else lines)
