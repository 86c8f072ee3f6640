"""How Auto decided, beside its request; documents of the optimizer; what was said of answers; leases.

Revises: 0005
Created: 2026-11-22
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("requests", sa.Column("insight", sa.Text))
    op.create_table(
        "documents",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("kind", "id", name="documents_pk"),
    )
    op.create_index("documents_by_time", "documents", ["kind", "created_at_ms"])
    op.create_table(
        "signals",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Float),
        sa.Column("version", sa.Text),
        sa.Column("key_id", sa.Text),
        sa.Column("comment", sa.Text),
        sa.Column("cost_nanousd", sa.BigInteger),
    )
    op.create_index("signals_by_request", "signals", ["request_id"])
    op.create_index("signals_by_time", "signals", ["created_at_ms"])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("leases", "signals", "documents"):
        op.drop_table(table)
    op.drop_column("requests", "insight")
