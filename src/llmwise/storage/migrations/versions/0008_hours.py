"""Sums of the hours that are over; indexes for pages of the history, of a mode and deep ones of a key.

Revises: 0007
Created: 2026-11-22
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

RARE = sa.text("mode <> 'chat'")


def upgrade() -> None:
    op.create_table(
        "hours",
        sa.Column("hour", sa.Integer, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("sums", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("hour", "key_id", name="hours_pk"),
    )
    of_page = ["mode", "id", "key_id", "created_at_ms"]
    op.create_index("requests_by_mode", "requests", of_page, sqlite_where=RARE, postgresql_where=RARE)
    op.drop_index("requests_by_key", "requests")
    op.create_index("requests_by_key", "requests", ["key_id", "created_at_ms", "id"])


def downgrade() -> None:
    op.drop_index("requests_by_key", "requests")
    op.create_index("requests_by_key", "requests", ["key_id", "created_at_ms"])
    op.drop_index("requests_by_mode", "requests")
    op.drop_table("hours")
