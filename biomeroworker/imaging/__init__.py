"""OME-Zarr and image files on this machine."""
