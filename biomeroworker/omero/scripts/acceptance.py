"""Check a request in the script, with the session of its user, so that a refusal is the message of the dialog.

The worker makes the same checks again before it exports anything. So a check that cannot be made now, because OMERO
does not answer, does not refuse the request.
"""

from __future__ import annotations

import logging
from typing import Any

from biomeroworker.config import Settings
from biomeroworker.domain.request import RunRequest
from biomeroworker.errors import Fault, Permanent, RequestRejected
from biomeroworker.omero.connection.session import OmeroSession
from biomeroworker.omero.request_checks import check_access, inputs_of
from biomeroworker.workflows import input_checks, parameters
from biomeroworker.workflows.catalogue import Catalogue

log = logging.getLogger(__name__)


def check_request(client: Any, request: RunRequest, settings: Settings, catalogue: Catalogue) -> None:
    """Refuse a request that cannot succeed; a few queries, whatever the number of images.

    Parameters
    ----------
    client
        The connected `omero.client` of the script; it stays open.
    catalogue
        The workflows of the settings.

    Raises
    ------
    RequestRejected
        The parameters are wrong, the user may not read the inputs or write the results, or the workflow does not
        accept the images. The message has what to change.
    """
    workflow = catalogue.get(request.workflow)
    try:
        parameters.validate(workflow, request.parameters, request.files)
        session = OmeroSession(client, end=False)
        selection, files = check_access(session, request)
        input_checks.check_files(workflow, files)
        conditions = settings.workflows[request.workflow].accepts
        input_checks.check(workflow, inputs_of(selection, request), conditions)
    except Permanent as fault:
        raise RequestRejected(f"{fault}; {fault.hint}" if fault.hint else str(fault)) from fault
    except Fault as fault:
        log.warning("the request is checked by the worker only: %s", fault)
