"""The tables of version 0.1.0.

Databases that were made before schema versions were recorded have these tables, or some of them. What exists is left
as it is.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables that are missing."""
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "biomeroworker_tracking",
        sa.Column("application_name", sa.String(32), primary_key=True),
        sa.Column("notification_id", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "biomeroworker_lease",
        sa.Column("run_id", sa.Uuid, primary_key=True),
        sa.Column("holder", sa.String, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "biomeroworker_outbox",
        sa.Column("id", serial, primary_key=True, autoincrement=True),
        sa.Column("run_id", sa.Uuid, nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("recorded", sa.Float, nullable=False),
        sa.Column("due", sa.Float, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("holder", sa.String, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        sa.Column("closed", sa.Float),
        sa.Column("outcome", sa.Text, nullable=False),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index(
        "biomeroworker_outbox_once", "biomeroworker_outbox", ["run_id", "channel"], unique=True, if_not_exists=True
    )
    still_open = sa.text("closed IS NULL")
    op.create_index(
        "biomeroworker_outbox_open",
        "biomeroworker_outbox",
        ["due"],
        postgresql_where=still_open,
        sqlite_where=still_open,
        if_not_exists=True,
    )
    op.create_table(
        "biomeroworker_swept",
        sa.Column("run_id", sa.Uuid, primary_key=True),
        sa.Column("swept", sa.Float),
        sa.Column("due", sa.Float, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "biomeroworker_owed_cancel",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("run_id", sa.Uuid, nullable=False),
        sa.Column("since", sa.DateTime, nullable=False),
        if_not_exists=True,
    )
