"""An OMERO.grid and a SLURM cluster on one machine, from real parts.

``python -m sandbox up`` starts them, ``status`` looks at each, ``down`` stops exactly what was started. All state
lives under one root folder and every port is the root's own, so two sandboxes live side by side.
"""
