"""The sandbox's containers, built from Debian and PyPI and pushed to the sandbox's registry.

The nuclei segmentation and the OME-Zarr to TIFF converter stand on one root file system (Debian, Python, numcodecs,
tifffile); the segmentation adds scikit-image and zarr.
"""
