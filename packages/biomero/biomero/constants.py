"""`biomeroworker.domain.constants`, under the name that scripts know."""

from biomeroworker.domain.constants import *  # noqa: F403
