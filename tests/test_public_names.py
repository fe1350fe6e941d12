"""Every module says what is public, and everything public says what it is."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import fcn_trt

NAMES = [module.name for module in pkgutil.walk_packages(fcn_trt.__path__, "fcn_trt.")]
MODULES = [importlib.import_module(name) for name in NAMES if not name.endswith("__main__")]


def own(module):
    """Classes and functions that a module defines itself."""
    for name, value in vars(module).items():
        is_code = inspect.isclass(value) or inspect.isfunction(value)
        if is_code and value.__module__ == module.__name__ and not name.startswith("_"):
            yield name, value


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_all_is_sorted_and_its_names_exist(module):
    names = getattr(module, "__all__", [])
    assert names == sorted(set(names), key=lambda name: (not name.isupper(), name))
    assert all(hasattr(module, name) for name in names)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_everything_public_has_a_docstring(module):
    assert inspect.getdoc(module)
    for name, value in own(module):
        assert value.__doc__, name
        if not inspect.isclass(value):
            continue
        for attribute, member in vars(value).items():
            member = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if inspect.isfunction(member) and not attribute.startswith("_"):
                assert member.__doc__, f"{name}.{attribute}"


def test_public_names_stay_functions_when_modules_are_loaded():
    """A folder of a function's name would take its place once it is imported, as all are here."""
    assert not [n for n in fcn_trt.__all__ if inspect.ismodule(getattr(fcn_trt, n))]
