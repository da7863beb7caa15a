"""Results of a run into OMERO: images, ROIs, tables, attachments, annotations."""
