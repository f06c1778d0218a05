"""What all tests share: the loop that async tests run on, and how Hypothesis searches."""

import gc
import os

import pytest
from hypothesis import settings

# No deadlines: they measure the machine and not the code. CI repeats one fixed search, a developer's runs look further.
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(items):
    """Files with long tests come first: else one of two workers has one left when the other has ended."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def anyio_backend():
    """The only loop that is supported."""
    return "asyncio"


@pytest.fixture
def tell(record_property):
    """Says how much was tried and found; pytest's summary has it."""
    return lambda line: record_property("count", line)


@pytest.fixture
def no_collector():
    """What is left after this is what only a collection would find."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def pytest_terminal_summary(terminalreporter):
    """What tests counted, at the end of the run."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    lines = [
        f"{report.nodeid.rpartition('/')[2]}: {value}"
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "count" and report.when == "call"
    ]
    if lines:
        terminalreporter.section("counts")
        terminalreporter.write_line("\n".join(lines))
