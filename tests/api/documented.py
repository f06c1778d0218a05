"""Holds each refusal that a test of the API meets against the reference: its operation must name its code.

Servers run in the process of the tests, so that ``watch`` sees every refusal that a handler made.
"""

from manent.api.http import errors
from manent.api.http.dialects import ROOT
from manent.api.openapi.refusals import status_of
from manent.api.openapi.tables.errors import CODES
from manent.api.openapi.tables.operations import OPERATIONS

missing = []
"""Refusals that no table names, since the last look."""


def watch():
    """From now on refusals are looked at. Called once, before an application is made."""
    handle = errors.handle

    def watched(request, error):
        response = handle(request, error)
        template = request.scope.get("path_template")
        if template is not None and not template.startswith(ROOT):
            look(request.route_handler.handler_name, template, request.scope["state"][errors.PROBLEM])
        return response

    errors.handle = watched


def look(operation, path, problem):
    """Remember a refusal that the reference does not know of."""
    told, row = OPERATIONS.get(operation), CODES.get(problem.code)
    if told is None:  # a handler of a test's own
        return
    if row is None or not (row.everywhere or problem.code in told.codes):
        missing.append(f"{operation}: {problem.status} {problem.code} is in no table")
    elif problem.status != status_of(path, operation, problem.code):
        missing.append(f"{operation}: {problem.code} is answered with {problem.status}")
