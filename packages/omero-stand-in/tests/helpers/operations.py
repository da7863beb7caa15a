"""What the server answers: the operations of each interface that a service of this package defines."""

from __future__ import annotations

from omero_stand_in import services
from omero_stand_in.commands import registry
from omero_stand_in.servant import Service, operations
from omero_stand_in.service_factory import ServiceFactory
from omero_stand_in.services.internal_repository import RepositoryService
from omero_stand_in.services.processes import InteractiveProcessorService, ScriptProcessService


def answered() -> dict[str, list[str]]:
    """Operations by interface, those that all stateful services have left out."""
    classes = [services.find(name) for name in services.TABLE]
    classes += [ServiceFactory, InteractiveProcessorService, ScriptProcessService, RepositoryService]
    return {
        cls.interface.ice_staticId().replace("::", ".").strip("."): sorted(
            name for name in operations(cls.interface) if hasattr(cls, name) and not hasattr(Service, name)
        )
        for cls in classes
        if cls is not None
    }


def commands() -> list[str]:
    """Requests that can be submitted."""
    registry.find(None)  # loads all of them
    return sorted(kind.ice_staticId().replace("::", ".").strip(".") for kind in registry.known())
