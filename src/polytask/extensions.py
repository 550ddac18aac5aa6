"""Extensions: user modules that add rows to the tables. Importing one runs its code, so a person has to ask for it.

They can be requested by a configuration given to a command (`extensions:`), the command line (`--extension`), Python
(`polytask.load(..., extensions=[...])`), the variable POLYTASK_EXTENSIONS, and installed packages that
declare an entry point in the group `polytask.extensions`. The folder of a model or a run only names what it needs.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Collection, Iterable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from polytask.errors import ConfigError, UserError
from polytask.inputs import names_in
from polytask.registry import allow, importing
from polytask.regular import is_file, is_folder

GROUP = "polytask.extensions"
# Names of extensions and the folders they were found in; processes that polytask starts inherit both.
VARIABLE = "POLYTASK_EXTENSIONS"
FOLDERS = "POLYTASK_EXTENSION_FOLDERS"
_done: set[str] = set()


def import_extensions(names: Iterable[str], base: Path | None = None, place: str = "extensions") -> None:
    """Import the requested modules, each once; processes started afterwards import them too.

    Args:
        names: names of modules.
        base: a further folder to search for modules, such as that of a configuration.
        place: where they were requested, for messages.

    Raises ConfigError for an invalid name, a missing module, and a module that fails.
    """
    for name in names_in(names, place):
        if name in _done:
            continue
        require_module_name(name, place)
        _import(name, base, place)
        allow(name)
        _done.add(name)
        known = _listed(os.environ.get(VARIABLE, ""))
        if name not in known:
            os.environ[VARIABLE] = ",".join([*known, name])


def import_allowed() -> None:
    """Import the extensions of installed packages and those in the variable POLYTASK_EXTENSIONS, each once."""
    _import_installed()
    import_extensions(_listed(os.environ.get(VARIABLE, "")), place=VARIABLE)


def missing_of(names: Iterable[str]) -> list[str]:
    """Return the extensions that have not been imported."""
    return [name for name in names if name not in _done and name not in sys.modules]


def require_imported(needed: Collection[str], place: str, raised: type[UserError]) -> None:
    """Raise an error that says how to allow the extensions a folder needs, unless they are imported. Imports nothing.

    Args:
        needed: the extensions named in the folder; the values are not trusted.
        place: path of the folder.
        raised: class of the error.
    """
    for name in needed:
        require_module_name(name, place, raised)
    missing = missing_of(needed)
    if missing:
        options = " ".join(f"--extension {name}" for name in missing)
        raise raised(
            f"{place}: needs the extension{'s' if len(missing) > 1 else ''} {', '.join(missing)}, and a folder imports "
            f"no code by itself; if you trust it, add {options} to the command (in Python: "
            f"extensions=[{', '.join(map(repr, missing))}])"
        )


def require_module_name(name: object, place: str, raised: type[UserError] = ConfigError) -> None:
    """Raise an error unless a value is a valid module name."""
    shown = repr(name)[:100]
    if isinstance(name, str) and name.endswith(".py"):
        raise raised(f"{place}: found {shown}; name the module, as `import` does: {Path(name).stem[:100]}")
    if isinstance(name, str) and all(part.isidentifier() for part in name.split(".")):
        return
    raise raised(f"{place}: found {shown}; an extension is the name of a module, such as my_package.methods")


def _import(name: str, base: Path | None, place: str) -> None:
    folder = _folder_of(name, base, place)
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))  # at the end, so that it cannot hide an installed package
        known = [item for item in os.environ.get(FOLDERS, "").split(os.pathsep) if item]
        os.environ[FOLDERS] = os.pathsep.join(dict.fromkeys([*known, str(folder)]))
    try:
        with importing(name):
            importlib.import_module(name)
    except UserError as error:
        raise ConfigError(f"{place}: {name}: {error}") from error
    except Exception as error:
        raise ConfigError(f"{place}: {name} cannot be imported: {_describe(error)}") from error


def _folder_of(name: str, base: Path | None, place: str) -> Path | None:
    """Return the folder next to the configuration or the command that holds a module; None if Python finds it itself.

    Raises ConfigError if there is no such module, or if Python finds a different one of the same name.
    """
    top = name.partition(".")[0]
    if top in sys.modules:
        return None
    listed = [Path(item) for item in os.environ.get(FOLDERS, "").split(os.pathsep) if item]
    around = [folder.resolve() for folder in (*([] if base is None else [base]), Path.cwd(), *listed)]
    local = next((folder for folder in around if is_file(folder / f"{top}.py") or is_folder(folder / top)), None)
    spec = importlib.util.find_spec(top)
    if spec is None:
        if local is None:
            shown = ", ".join(dict.fromkeys(map(str, around)))
            raise ConfigError(f"{place}: there is no module {top!r}: it is not installed, and not in {shown}")
        return local
    home = Path(spec.origin or next(iter(spec.submodule_search_locations or ()), "")).resolve()
    if local is not None and is_file(local / f"{top}.py") and local not in home.parents:
        raise ConfigError(
            f"{place}: {name} is {local / f'{top}.py'}, and Python finds another module of this name ({home}); "
            "rename yours"
        )
    return None


def _describe(error: Exception) -> str:
    """Format an error of a user's module, with the line that raised it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    frames = [frame for frame in frames if Path(frame.filename) != Path(__file__)]
    at = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):
        at = f" ({error.filename}:{error.lineno})"
    return f"{type(error).__name__}: {error}{at}"


@cache
def _import_installed() -> None:
    for point in entry_points(group=GROUP):
        owner = f" of the package {point.dist.name}" if point.dist is not None else ""
        import_extensions([point.module], place=f"entry point {point.name!r}{owner}")


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
