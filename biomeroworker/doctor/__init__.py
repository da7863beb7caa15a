"""Examine a deployment: configuration, database, OMERO, SSH, front-end, nodes, workflows, images."""
