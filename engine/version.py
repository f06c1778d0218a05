"""The version of the package, as it was installed."""

from importlib.metadata import version as installed


def version() -> str:
    return installed("manent")
