"""The stand-in server's objects: their schema, the store that keeps them, who may see them, how they travel."""

from .entity import Context, Entity
from .store import Graph

__all__ = ["Context", "Entity", "Graph"]
