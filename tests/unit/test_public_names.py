"""The public names of the engine: complete, typed, and documented."""

import inspect
import re
import typing

import pytest

from manent import engine
from manent.engine import (
    LOCAL,
    ConversationFile,
    Engine,
    Evidence,
    Salvage,
    Serving,
    SyncEngine,
    SyncEvidence,
    SyncSalvage,
    SyncTextStream,
    TextStream,
)

NAMES = {name: getattr(engine, name) for name in engine.__all__}
TYPED = {name: each for name, each in NAMES.items() if inspect.isclass(each) or inspect.isroutine(each)}
MADE_INSIDE = (
    *(ConversationFile, Engine, Evidence, Salvage, Serving, TextStream),
    *(SyncEngine, SyncEvidence, SyncSalvage, SyncTextStream),
)
"""Nobody else calls their constructors."""

DOORS = {"Engine": Engine, "Evidence": Evidence, "Salvage": Salvage, "Serving": Serving}
OF_NOBODY = {"model", "models", "purge", "admit_reader", "ready", "standing", "drain", "resume_replays"} | {
    "forget_unstored",
    "read_on",
}
"""They are about no tenant's log."""

ERROR = re.compile(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)+\b|\bInvalid\b|\bOverloaded\b|\bErased\b")


def methods_of(door):
    """The public methods of a class, by name."""
    found = inspect.getmembers(door, inspect.isroutine)
    return {name: method for name, method in found if not name.startswith("_")}


METHODS = {f"{name}.{method}": each for name, door in DOORS.items() for method, each in methods_of(door).items()}


def classes_in(annotation):
    """The classes that an annotation is made of."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        yield annotation
    for part in (typing.get_origin(annotation), *typing.get_args(annotation)):
        if part is not None and part is not annotation:
            yield from classes_in(part)
    if isinstance(annotation, list | tuple):
        for part in annotation:
            yield from classes_in(part)


def annotations_of(thing):
    """Of a function's parameters and its return, or of a class's public fields and methods: (where, annotation)."""
    if inspect.isroutine(thing):
        yield from typing.get_type_hints(thing).items()
        return
    for name, hint in typing.get_type_hints(thing).items():
        if not name.startswith("_"):
            yield name, hint
    for name, member in inspect.getmembers_static(thing):
        if name.startswith("_") and (name != "__init__" or thing in MADE_INSIDE):
            continue
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if inspect.isfunction(function) and function.__module__.startswith("manent."):
            yield from ((f"{name}: {where}", hint) for where, hint in typing.get_type_hints(function).items())


def test_every_public_name_is_there_once_and_in_order():
    """The list is what is exported: no name twice, constants and classes before functions."""
    assert len(set(engine.__all__)) == len(engine.__all__)
    assert engine.__all__ == sorted(engine.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))


@pytest.mark.parametrize("name", TYPED)
def test_what_a_public_type_is_made_of_is_public(name):
    """Whatever a public field, parameter or return is annotated with can be imported from ``manent.engine``."""
    public = {id(each) for each in NAMES.values()}
    hidden = {
        f"{where}: {kind.__module__}.{kind.__qualname__}"
        for where, annotation in annotations_of(TYPED[name])
        for kind in classes_in(annotation)
        if kind.__module__.startswith("manent.") and id(kind) not in public
    }
    assert not hidden


def test_every_error_is_public():
    """Whoever reads that something raises an error can name it."""
    kinds = {name for name, each in vars(engine.errors).items() if inspect.isclass(each)}
    errors = {name for name in kinds if issubclass(getattr(engine.errors, name), engine.EngineError)}
    assert errors <= NAMES.keys()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_raises(name):
    """Its docstring names the errors, which exist, or says that there are none."""
    said = inspect.getdoc(METHODS[name])
    assert re.search(r"\b[Rr]aises\b", said)
    named = set(ERROR.findall(said.split("aises", 1)[1]))
    assert all(issubclass(getattr(engine, error), engine.EngineError) for error in named)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_called_in_one_way(name):
    """The caller is a keyword with a default, and the last one but for options; no parameter takes just anything."""
    signature = inspect.signature(METHODS[name], eval_str=True)
    parameters = list(signature.parameters.values())
    options = [each for each in parameters if each.kind is each.VAR_KEYWORD]
    named = [each for each in parameters if each not in options]
    assert all(typing.get_origin(each.annotation) is typing.Unpack for each in options)
    assert not [each.name for each in named[1:] if each.annotation in {typing.Any, each.empty}]
    assert signature.return_annotation is not signature.empty
    if name.split(".")[1] not in OF_NOBODY:
        assert (named[-1].name, named[-1].kind, named[-1].default) == ("caller", named[-1].KEYWORD_ONLY, LOCAL)


@pytest.mark.parametrize(("door", "inside"), [(SyncEngine, Engine), (SyncEvidence, Evidence), (SyncSalvage, Salvage)])
def test_the_synchronous_door_has_the_same_methods(door, inside):
    """Under the same names, with the same parameters and documentation; it can be closed, too."""
    there, own = methods_of(inside), methods_of(door)
    assert own.keys() - there.keys() <= {"close"}
    assert there.keys() <= own.keys()
    for name, method in there.items():
        given, expected = inspect.signature(own[name]), inspect.signature(method)
        assert [str(each) for each in given.parameters.values()] == [str(each) for each in expected.parameters.values()]
        assert inspect.getdoc(own[name]) == inspect.getdoc(method)
