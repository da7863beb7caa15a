"""Images and plates of OMERO as OME-Zarr."""
