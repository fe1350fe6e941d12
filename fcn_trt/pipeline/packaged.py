"""The recipes that come with this package, and a user's own copy of one.

In the repository they lie in engines/, and the calibration caches that they use in calibration/; a
wheel has both in fcn_trt/recipes/ (pyproject.toml). They are copied, and not built where they are,
since a bundle lies beside its recipe, and because a recipe is there to be edited.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fcn_trt.errors import OutputError, RecipeError
from fcn_trt.files import write_atomic
from fcn_trt.model.weights import published_names
from fcn_trt.pipeline.recipe_file import RecipeTable, read_table

__all__ = ["PackagedRecipe", "copy_recipe", "packaged_recipes"]

PACKAGE = Path(__file__).parents[1]
FILES = ("model", "weights", "calibration")
"""Keys of a recipe that may name a file."""


@dataclass(frozen=True)
class PackagedRecipe:
    """A recipe of this package.

    Attributes:
        path: Its file.
    """

    path: Path

    @property
    def name(self) -> str:
        """What it is called."""
        return self.path.stem

    @cached_property
    def table(self) -> RecipeTable:
        """What it says."""
        return read_table(self.path)

    @property
    def files(self) -> dict[str, Path]:
        """The files of this package that it uses, by how it names them."""
        named = {getattr(self.table, key) for key in FILES} - {None}
        return {text: _from_engines(text) for text in sorted(named) if "/" in text}

    @property
    def needs(self) -> list[str]:
        """What it needs besides the core install: extras, weights to be downloaded, a GPU."""
        table = self.table
        extras = ["export"] if table.target == "openvino" else ["export", str(table.target)]
        found = [f"fcn-trt[{','.join(extras)}]"]
        if table.weights in published_names():
            found.append(f"weights {table.weights}")
        if table.target == "tensorrt":
            found.append(f"a GPU of {', '.join(table.device.compute_capability or ())}")
        return found


def packaged_recipes() -> dict[str, PackagedRecipe]:
    """All of them by name, those first that need nothing from elsewhere."""
    listed = [PackagedRecipe(path) for path in sorted((_root() / "engines").glob("*.toml"))]
    listed.sort(key=lambda recipe: not recipe.files)
    return {recipe.name: recipe for recipe in listed}


def copy_recipe(name: str, out: Path) -> list[Path]:
    """Copy a recipe into a folder, and beside it what it uses of this package.

    Args:
        out: Made if it is missing.

    Returns:
        What was written, the recipe first.

    Raises:
        RecipeError: there is none of that name.
        OutputError: a file cannot be written, or is there already with other content.
    """
    known = packaged_recipes()
    if name not in known:
        raise RecipeError(f"there is no recipe {name!r}; there are {', '.join(known)}")
    recipe = known[name]
    text = recipe.path.read_text(encoding="utf-8")
    content = {}
    for named, path in recipe.files.items():
        text = re.sub(rf'(?m)^(\w+ = )"{re.escape(named)}"', rf'\1"{path.name}"', text)
        content[out / path.name] = path.read_bytes()
    content = {out / recipe.path.name: text.encode(), **content}
    for path, data in content.items():
        if path.exists() and not (path.is_file() and path.read_bytes() == data):
            raise OutputError(f"{path} is there and is another; give another folder, or remove it")
    for path, data in content.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
    return list(content)


def _root() -> Path:
    """The folder of engines/ and calibration/."""
    inside = PACKAGE / "recipes"
    return inside if inside.is_dir() else PACKAGE.parent


def _from_engines(text: str) -> Path:
    """The file that a recipe names as ../FOLDER/..., beside engines/ in the repository."""
    _, folder, *rest = Path(text).parts
    return (PACKAGE if folder == PACKAGE.name else _root() / folder).joinpath(*rest)
