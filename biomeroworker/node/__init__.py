"""Being Processor-0 of an OMERO.grid."""
