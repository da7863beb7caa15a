"""Alembic's folder for the tables of `OWN_TABLES`: the environment, and one module for each revision in `versions`.

`biomeroworker.eventlog.store.schema` applies the revisions when a log is opened. To change a table, add a module
``versions/revision_NNNN.py`` and make the same change in `biomeroworker.eventlog.tables`; a test compares the two.

* A revision only adds (tables, indexes, columns that may be null or have a server default), because processes of the
  version before it may still be at work on the same database.
* A revision is never changed after its release, and names tables and columns by literals.
* It runs inside one transaction, on PostgreSQL and on SQLite.
"""
