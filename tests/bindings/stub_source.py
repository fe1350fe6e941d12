"""What pybind11-stubgen writes, made readable for mypy, and the module as a class."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

__all__ = ["CLASSES", "LIBRARY", "TYPES", "classes_source", "mended", "types_source"]

CLASSES = "tensorrt_classes"
TYPES = "tensorrt_types"
LIBRARY = "TensorRt"

_FOR_MYPY = "# mypy: ignore-errors, implicit-optional"
_BASES = {"Dims": "collections.abc.Sequence[int]", "IHostMemory": "typing_extensions.Buffer"}
"""What two classes of the bindings can be used as, by methods that have no signature."""


def mended(stub: str) -> ast.Module:
    """What pybind11-stubgen wrote, without what mypy does not read."""
    module = ast.parse("\n".join(_mended_line(line) for line in stub.splitlines()))
    _ForMypy().visit(module)
    return ast.fix_missing_locations(module)


def classes_source(classes: ast.Module) -> str:
    """The source of `tensorrt_classes`: every class of the bindings."""
    return f"{_FOR_MYPY}\n{ast.unparse(classes)}\n"


def types_source(classes: ast.Module, names: Iterable[str]) -> str:
    """The source of `tensorrt_types`: every class again, and the library as a class.

    Args:
        classes: What was mended.
        names: Everything that the library itself has.
    """
    known = {part.name for part in classes.body if isinstance(part, ast.ClassDef)}
    lines = ["import typing", f"import {CLASSES}", f"from {CLASSES} import *", f"class {LIBRARY}:"]
    lines += [
        f"    {name} = {CLASSES}.{name}" if name in known else f"    {name}: typing.Any"
        for name in names
        if name not in dir(object)
    ]
    return "\n".join(lines) + "\n"


def _mended_line(line: str) -> str:
    """A signature that is no Python, such as that of a parameter called `in`, takes anything."""
    head = re.match(r"( *def \w+\()(.*)\) -> .*:$", line)
    if head is None:
        return line
    try:
        ast.parse(f"{line.strip()} ...")
    except SyntaxError:
        return f"{head[1]}*args: typing.Any, **kwargs: typing.Any) -> typing.Any:"
    return line


class _ForMypy(ast.NodeTransformer):
    """Drops the documentation, and says what signatures of pybind11 do not."""

    def visit_Module(self, node: ast.Module) -> ast.AST:
        self.generic_visit(node)
        future, *rest = node.body
        imports = ast.parse("import builtins, collections.abc, typing, typing_extensions").body
        named = [part for part in rest if not ast.unparse(part).startswith("__all__")]
        node.body = [future, *imports, *named]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        if node.name in _BASES:
            node.bases = [_expression(_BASES[node.name])]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.body = [ast.Expr(ast.Constant(...))]
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg) and argument.annotation is not None:
                argument.annotation = _ParameterTypes().visit(argument.annotation)
        node.returns = node.returns and _NamedTypes().visit(node.returns)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = _NamedTypes().visit(node.annotation)
        node.value = None
        return node


class _NamedTypes(ast.NodeTransformer):
    """In an annotation: `...` is Any, and `bool` is Python's and not the data type `trt.bool`."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return _expression("typing.Any") if node.value is ... else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return _expression("builtins.bool") if node.id == "bool" else node


class _ParameterTypes(_NamedTypes):
    """Where dimensions are asked for, any sequence of numbers does."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return _expression(_BASES["Dims"]) if node.id == "Dims" else super().visit_Name(node)


def _expression(source: str) -> ast.expr:
    return ast.parse(source, mode="eval").body
