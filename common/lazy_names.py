"""Names that a package offers and loads when they are first used."""

from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_names(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Returns `__getattr__` and `__dir__` of a package that imports a name at its first use.

    A module of the package can then be imported without what the package offers beside it, such as
    Lightning (PEP 562).

    Args:
        package: Name of the package.
        modules: The module of each name; a module that ends in the name is itself what is offered.
    """

    def load(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(modules[name])
        return module if modules[name].endswith(f".{name}") else getattr(module, name)

    return load, lambda: [*vars(import_module(package)), *modules]
