"""Check that a worker can work with OMERO: login, rights, Tables server, Processor. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import omero
import omero.clients

from biomeroworker.domain.findings import Finding, fail, ok, warn
from biomeroworker.errors import classify
from biomeroworker.omero.connection.credentials import ANY_USER, provider_from_environment
from biomeroworker.omero.connection.errors import server_message, translate_errors
from biomeroworker.omero.connection.session import OmeroSession

#: The privilege to open sessions as other users, which the results of their runs need.
_SUDO = "Sudo"
#: The script that submits runs.
SCRIPT = "SLURM_Run_Workflow.py"


def examine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the findings, each when it is known."""
    try:
        provider = provider_from_environment(environ)
        session = provider.open(ANY_USER, ANY_USER)
    except Exception as error:
        fault = classify(error)
        remedy = getattr(fault, "hint", "") or "OMERO_HOST, OMERO_PORT, OMERO_USER and OMERO_PASSWORD, or OMERO_LOCATOR"
        yield fail("omero", str(fault), remedy)
        return
    with session:
        yield ok("omero", f"logged in as {session.user_name} ({provider!r})")
        for look in (_rights, _tables, _processor):
            try:
                with translate_errors(f"check OMERO ({look.__name__.strip('_')})"):
                    yield from look(session)
            except Exception as error:
                yield fail(f"omero {look.__name__.strip('_')}", str(classify(error)))


def _rights(session: OmeroSession) -> Iterator[Finding]:
    admin = session.sf.getAdminService()
    context = admin.getEventContext()
    groups = [group for group in admin.lookupGroups() if group.name.val not in ("system", "user", "guest")]
    names = ", ".join(sorted(group.name.val for group in groups)[:10])
    if not context.isAdmin:
        problem = f"{session.user_name} is not an administrator: it can execute only its own runs"
        yield warn("omero rights", problem, "give the login the Sudo privilege (a restricted administrator)")
    elif context.adminPrivileges is not None and _SUDO not in context.adminPrivileges:
        problem = f"{session.user_name} may not act for other users: the privilege {_SUDO} is missing"
        yield fail("omero rights", problem, f"give it {_SUDO} (OMERO.web, Admin, user, privileges)")
    else:
        yield ok("omero rights", f"can act for the users of {len(groups)} groups ({names or 'none yet'})")


def _tables(session: OmeroSession) -> Iterator[Finding]:
    if session.sf.sharedResources().areTablesEnabled():
        yield ok("omero tables", "the Tables server answers")
    else:
        problem = "no Tables server: result tables cannot be written"
        yield warn("omero tables", problem, "start Tables-0 of the grid")


def _processor(session: OmeroSession) -> Iterator[Finding]:
    service = session.sf.getScriptService()
    scripts = [script for script in service.getScripts() if script.name.val == SCRIPT]
    if not scripts:
        yield warn("omero scripts", f"{SCRIPT} is not installed", "docs/deploy.md, step Scripts")
        return
    try:
        # as OMERO.web does; canRunScript is true for any official script, without a request to a Processor
        dialog = service.getParams(scripts[0].id.val)
    except omero.NoProcessorAvailable:
        problem = f"no registered Processor runs {SCRIPT}"
        yield fail("omero processor", problem, "start Processor-0 of the grid, or biomeroworker attach")
        return
    except omero.ValidationException as error:
        problem = f"{SCRIPT} fails before it shows its dialog: {server_message(error)}"
        yield fail("omero processor", problem, "run it with the Python of the Processor: it needs biomeroworker")
        return
    yield ok("omero processor", f"a registered Processor runs {SCRIPT}")
    missing = (dialog.description or "").partition("Not available: ")[2]
    if missing:
        yield warn("omero dialog", f"not available on the Processor: {missing}", "check its ini file and its cache")
