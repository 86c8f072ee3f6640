"""Usage, requests and files that were imported from elsewhere.

Revises: 0004
Created: 2026-11-22
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "imported_usage",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("content", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("cut", sa.Text, nullable=False),
        sa.Column("starts_at_ms", sa.BigInteger, nullable=False),
        sa.Column("ends_at_ms", sa.BigInteger, nullable=False),
        sa.Column("imported_at_ms", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("requests", sa.BigInteger),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger, nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_nanousd", sa.BigInteger),
        sa.Column("priced_by", sa.Text),
    )
    op.create_table(
        "imported_requests",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("content", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("external_id", sa.Text),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("provider", sa.Text),
        sa.Column("failed", sa.Boolean, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger, nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_nanousd", sa.BigInteger),
        sa.Column("priced_by", sa.Text),
        sa.Column("latency_ms", sa.BigInteger),
        sa.Column("ttft_ms", sa.BigInteger),
        sa.Column("task_type", sa.Text),
        sa.Column("confidence", sa.Float),
        sa.Column("difficulty", sa.Float),
        sa.Column("needs", sa.Text),
        sa.Column("conversation_id", sa.Text),
    )
    op.create_table(
        "imports",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("format", sa.Text, nullable=False),
        sa.Column("imported_at_ms", sa.BigInteger, nullable=False),
        sa.Column("records", sa.BigInteger, nullable=False),
        sa.Column("rejected", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("imports")
    op.drop_table("imported_requests")
    op.drop_table("imported_usage")
