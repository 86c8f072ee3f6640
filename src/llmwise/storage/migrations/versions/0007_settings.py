"""Provider keys of accounts, conversations, memories; whose provider key a request went by.

Revises: 0006
Created: 2026-11-22
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TOLD = sa.text("conversation_id IS NOT NULL")


def upgrade() -> None:
    op.add_column("requests", sa.Column("byok", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("attempts", sa.Column("byok", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index(
        "requests_by_conversation",
        "requests",
        ["conversation_id", "created_at_ms"],
        sqlite_where=TOLD,
        postgresql_where=TOLD,
    )
    op.create_table(
        "provider_keys",
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("hint", sa.Text, nullable=False),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "provider", name="provider_keys_pk"),
    )
    op.create_table(
        "conversations",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("conversations_by_account", "conversations", ["account_id", "created_at_ms"])
    op.create_table(
        "memories",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("conversation_id", sa.Text),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("vector", sa.Text, nullable=False),
    )
    op.create_index("memories_by_account", "memories", ["account_id", "created_at_ms"])


def downgrade() -> None:
    for table in ("memories", "conversations", "provider_keys"):
        op.drop_table(table)
    op.drop_index("requests_by_conversation", "requests")
    op.drop_column("attempts", "byok")
    op.drop_column("requests", "byok")
