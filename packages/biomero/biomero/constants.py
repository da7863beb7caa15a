"""`biomeroworker.constants`, under the name that scripts know."""

from biomeroworker.constants import *  # noqa: F403
