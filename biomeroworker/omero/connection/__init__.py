"""Sessions on OMERO.server: log in, keep the connection alive, translate its errors."""
