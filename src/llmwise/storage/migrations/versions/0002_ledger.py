"""The ledger of credit; a request's only attempt in the request's own row; one index less.

Rows of `attempts` that are there stay: a reader takes both.

Revises: 0001
Created: 2026-11-22
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("sent_model", sa.Text),
        sa.Column("answered_model", sa.Text),
        sa.Column("outcome", sa.Text),
        sa.Column("upstream_status", sa.Integer),
        sa.Column("attempt_started_at_ms", sa.BigInteger),
        sa.Column("attempt_latency_ms", sa.BigInteger),
    ):
        op.add_column("requests", column)
    op.drop_index("requests_by_time", "requests")
    op.create_table(
        "ledger",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text),
        sa.Column("request_id", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("amount_nanousd", sa.BigInteger, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text),
    )
    op.create_index("ledger_by_account", "ledger", ["account_id", "created_at_ms", "amount_nanousd"])


def downgrade() -> None:
    op.drop_table("ledger")
    op.create_index("requests_by_time", "requests", ["created_at_ms"])
    for name in (
        *("attempt_latency_ms", "attempt_started_at_ms", "upstream_status", "outcome", "answered_model", "sent_model"),
    ):
        op.drop_column("requests", name)
