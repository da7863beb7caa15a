"""The sandbox's workflow container, built from Debian and PyPI and pushed to the sandbox's registry.

One root file system (Debian, Python, scikit-image, tifffile, zarr) serves two images: the nuclei segmentation and the
OME-Zarr to TIFF converter. They differ in one small layer and in their entry point.
"""
