"""A stand-in for OMERO.blitz: a Python server that speaks OMERO's real Ice API.

``python -m omero_stand_in`` runs it behind a Glacier2 router. `server` is the process, `sessions` who is logged in,
`servant` how services are written, `services` the services that clients call, `graph` the objects and who may see them.
It answers what is implemented as a real server does, and refuses everything else by name.
"""
