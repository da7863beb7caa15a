"""The Python environment of OMERO.web, which is separate because OMERO.biomero needs Python 3.12."""
