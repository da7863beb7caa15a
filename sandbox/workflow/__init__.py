"""The containers of the sandbox, built from Debian and PyPI and pushed to the registry of the sandbox.

The nuclei segmentation and the OME-Zarr to TIFF converter have the same root file system (Debian, Python, numcodecs,
tifffile); the segmentation adds scikit-image and zarr.
"""
