"""What all tests share: the loop that async tests run on, and how Hypothesis searches."""

import os

import pytest
from hypothesis import settings

# No deadlines: they measure the machine and not the code. CI repeats one fixed search, a developer's runs look further.
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def anyio_backend():
    """The only loop that is supported."""
    return "asyncio"
