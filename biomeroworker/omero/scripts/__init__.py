"""What the OMERO scripts need: their dialog, and following a run."""
