"""Accounts; a key's account, its expiry, and the secret that it had before it was rotated.

Revises: 0002
Created: 2026-11-22
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("keys", sa.Column("account_id", sa.Text, nullable=False, server_default="default"))
    op.add_column("keys", sa.Column("expires_at_ms", sa.BigInteger))
    op.add_column("keys", sa.Column("previous_hash", sa.Text))
    op.add_column("keys", sa.Column("previous_until_ms", sa.BigInteger))
    op.create_index("keys_by_previous_hash", "keys", ["previous_hash"])
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("settings", sa.Text),
    )


def downgrade() -> None:
    op.drop_table("accounts")
    op.drop_index("keys_by_previous_hash", "keys")
    for name in ("previous_until_ms", "previous_hash", "expires_at_ms", "account_id"):
        op.drop_column("keys", name)
