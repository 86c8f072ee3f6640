"""For all tests: a busy machine is slow, and that is no failure; and one PostgreSQL for all who want one."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.servers import PostgreSQL

settings.register_profile("llmwise", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("llmwise")


@pytest.fixture(scope="session")
def postgres() -> "Iterator[PostgreSQL]":
    """One server for all workers of a run, started by whoever is first."""
    from tests.servers import postgresql

    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid.uuid4().hex)[:12]
    with postgresql(Path(tempfile.gettempdir()) / f"llmwise-postgresql-{run}") as server:
        yield server


@pytest.fixture
def postgres_url(postgres: "PostgreSQL") -> str:
    """A schema of its own for each test."""
    return postgres.url(f"test_{uuid.uuid4().hex[:16]}")
