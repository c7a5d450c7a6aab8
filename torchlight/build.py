"""Builds an object from a class path and a mapping of arguments, as a config holds them."""

import dataclasses
import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeGuard, TypeVar, Union, get_args, get_origin

PACKAGES = ("net", "feeder", "processor")

T = TypeVar("T")
# An entry of a list in a config: `Name` or `{Name: {argument: value}}`.
Item = str | Mapping[str, Mapping[str, Any] | None]


class Problem(NamedTuple):
    """What is wrong with one argument or config key."""

    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


class ClassPathError(ValueError):
    """A dotted path does not lead to a class that may be built."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """A hint for the end of an error message: the choice most similar to `name`, or all choices if none is similar."""
    names = sorted(choices)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"choose from {', '.join(names)}" if names else "there is none to choose from"


def import_class(path: str, packages: Sequence[str] = PACKAGES) -> type:
    """The class at a dotted path such as `net.st_gcn.Model`.

    Args:
        path: package, module(s) and class name.
        packages: the packages that a path may start with. The class must also be defined in one of them: a name that a
            module only imports from elsewhere is refused.

    Raises:
        ClassPathError: the path is outside `packages` or does not lead to a class. The message has the nearest valid
            name.
    """
    parts = path.split(".") if isinstance(path, str) else []
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ClassPathError(f"{path!r} is not a class path; give one such as 'net.st_gcn.Model'")
    if not _inside(path, packages):
        raise ClassPathError(
            f"{path!r} is outside {', '.join(packages)}; {nearest(parts[0], packages)} "
            "(--plugin PACKAGE allows another package)"
        )
    module = _import_module(parts[:-1], path)
    found = getattr(module, parts[-1], None)
    if not _is_class_of(found, packages):
        below = [info.name for info in pkgutil.iter_modules(getattr(module, "__path__", []))]
        if parts[-1] in below:
            raise ClassPathError(f"{path!r}: {path} is a module; write {path}.ClassName")
        valid = below + [name for name, value in vars(module).items() if _is_class_of(value, packages)]
        raise ClassPathError(f"{module.__name__} has no class {parts[-1]!r}; {nearest(parts[-1], valid)}")
    return found


def _inside(path: str, packages: Sequence[str]) -> bool:
    return any(path.startswith(package + ".") for package in packages)


def _is_class_of(value: Any, packages: Sequence[str]) -> TypeGuard[type]:
    return inspect.isclass(value) and _inside(value.__module__ + ".", packages)


def _import_module(parts: Sequence[str], path: str) -> types.ModuleType:
    """Import level by level, so that an error can say which level is wrong."""
    module = _import_level(parts[0], path)
    if module is None:
        raise ClassPathError(f"{path!r}: package {parts[0]!r} cannot be found; is it on PYTHONPATH?")
    for part in parts[1:]:
        if not hasattr(module, "__path__"):
            raise ClassPathError(
                f"{path!r}: {module.__name__} is a module; write {module.__name__}.ClassName"
            )
        below = _import_level(f"{module.__name__}.{part}", path)
        if below is None:
            names = [info.name for info in pkgutil.iter_modules(module.__path__)]
            raise ClassPathError(f"{module.__name__} has no module {part!r}; {nearest(part, names)}")
        module = below
    return module


def _import_level(name: str, path: str) -> types.ModuleType | None:
    if importlib.util.find_spec(name) is None:
        return None
    try:
        return importlib.import_module(name)
    except (ImportError, SyntaxError) as error:
        raise ClassPathError(f"{path!r}: importing {name} failed: {error}") from error


def bind(cls: Callable, args: Mapping[str, Any], provided: Collection[str] = ()) -> list[Problem]:
    """The problems that a call `cls(**args, **provided)` would have. Does not call it.

    Args:
        cls: a class (or function).
        args: arguments from a config.
        provided: names of the arguments that the program passes.

    Returns:
        One `Problem` per argument that is unknown (with the nearest name), of a wrong type (see `mismatch`), missing,
        or given both by `args` and by the program.
    """
    name = f"{cls.__module__}.{cls.__qualname__}"
    parameters = inspect.signature(cls).parameters
    named = {
        key: parameter
        for key, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    hints = _type_hints(cls)

    problems = []
    for key, value in args.items():
        if key in provided:
            problems.append(Problem(key, f"the program passes this argument to {name}; remove it"))
        elif key in named:
            wrong = mismatch(value, hints.get(key, Any))
            if wrong:
                problems.append(Problem(key, wrong))
        elif not takes_any:
            settable = [other for other in named if other not in provided]
            problems.append(
                Problem(str(key), f"{name} takes no such argument; {nearest(str(key), settable)}")
            )
    for key in provided:
        if key not in named and not takes_any:
            problems.append(Problem(key, f"{name} must take this argument, because the program passes it"))
    for key, parameter in named.items():
        if parameter.default is parameter.empty and key not in args and key not in provided:
            problems.append(Problem(key, f"{name} needs this argument; give it a value"))
    return problems


def _type_hints(cls: Callable) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls.__init__ if inspect.isclass(cls) else cls)
    except (NameError, TypeError):  # a name that only type checkers know, or a class written in C
        return {}


def argument(cls: Callable, args: Mapping[str, Any], name: str, default: Any) -> Any:
    """The value of the argument `name` in `cls(**args)`; `default` if there is no such argument, or it has no value."""
    parameter = inspect.signature(cls).parameters.get(name)
    own = default if parameter is None or parameter.default is parameter.empty else parameter.default
    return own if parameter is None else args.get(name, own)


def check_class(
    key: str,
    path: str,
    args: Mapping[str, Any],
    packages: Sequence[str],
    *,
    base: type | tuple[type, ...] = object,
    provided: Sequence[str] = (),
) -> list[Problem]:
    """Problems of a class path under `key` and of the arguments under `<key>_args`.

    base: the class at the path must be a subclass of it.
    provided: names of the arguments that the program passes.
    """
    try:
        cls = import_class(path, packages)
    except ClassPathError as error:
        return [Problem(key, str(error))]
    if not issubclass(cls, base):
        # The arguments of another class would only hide this.
        wanted = base if isinstance(base, tuple) else (base,)
        names = " or ".join(f"{each.__module__}.{each.__qualname__}" for each in wanted)
        return [Problem(key, f"{path} is not a {names}; name a class that is one")]
    return [Problem(f"{key}_args.{problem.key}", problem.text) for problem in bind(cls, args, provided)]


def build(
    target: str | Callable, args: Mapping[str, Any], /, *, packages: Sequence[str] = PACKAGES, **provided: Any
) -> Any:
    """An instance of a class, from arguments of a config and arguments that the program provides.

    Args:
        target: the class, or a path for `import_class`.
        args: arguments from a config.
        packages: see `import_class`.
        **provided: arguments that the program passes.

    Raises:
        ClassPathError: the path does not lead to a class.
        ValueError: `bind` found problems; lists all of them.
    """
    cls = import_class(target, packages) if isinstance(target, str) else target
    problems = bind(cls, args, provided)
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise ValueError(
            f"{cls.__module__}.{cls.__qualname__} cannot be built with these arguments:\n{listed}"
        )
    return cls(**_with_paths(cls, args), **provided)


def _with_paths(cls: Callable, args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, with a `Path` in place of a string where `cls` takes a `Path`."""
    hints = _type_hints(cls)
    return {key: Path(value) if hints.get(key) is Path else value for key, value in args.items()}


def build_listed(
    key: str,
    items: Sequence[Item],
    table: Mapping[str, type[T]],
    *,
    packages: Sequence[str],
    base: Any,
    problems: list[Problem],
) -> list[T]:
    """The objects of a list in a config, each written `Name` or `{Name: {argument: value}}`.

    Entries with problems are left out.

    Args:
        key: of the list, for messages.
        items: the list.
        table: classes by their short names. Other classes have a class path, such as `mypackage.steps.Tremble`.
        packages: see `import_class`.
        base: a class, or a union of classes. A class with a class path must be a subclass of it.
        problems: the problems of the entries are added to it.
    """
    if isinstance(items, (str, Mapping)):
        problems.append(Problem(key, f"is {items!r}; give a list"))
        return []
    objects = []
    for number, item in enumerate(items):
        where = f"{key}.{number}"
        named = {item: None} if isinstance(item, str) else item
        if not isinstance(named, Mapping) or len(named) != 1:
            problems.append(Problem(where, f"is {item!r}; write Name or {{Name: {{argument: value}}}}"))
            continue
        ((name, args),) = named.items()
        try:
            cls = table[name] if name in table else _class_of(name, table, packages, base)
        except ClassPathError as error:
            problems.append(Problem(where, str(error)))
            continue
        if not isinstance(args, Mapping) and args is not None:
            problems.append(Problem(f"{where}.{name}", f"is {args!r}; give {{argument: value}}"))
            continue
        wrong = bind(cls, args or {})
        problems += [Problem(f"{where}.{name}.{problem.key}", problem.text) for problem in wrong]
        if not wrong:
            try:
                objects.append(cls(**_with_paths(cls, args or {})))
            except ValueError as error:
                problems.append(Problem(f"{where}.{name}", str(error)))
    return objects


def _class_of(name: object, table: Collection[str], packages: Sequence[str], base: Any) -> type:
    """The class at a path, for a name that is not in the table. Raises ClassPathError."""
    if table and (not isinstance(name, str) or "." not in name):
        raise ClassPathError(f"{name!r} is unknown; {nearest(str(name), table)}")
    cls = import_class(name, packages)  # type: ignore[arg-type]
    if not issubclass(cls, base):
        raise ClassPathError(f"{name} is not a {_describe(base)}")
    return cls


def mismatch(value: object, annotation: Any) -> str | None:
    """The reason why a value from YAML does not fit a type annotation; None if it fits.

    It checks None, bool, int, float (an int fits), str, `Path` (a str fits), Literal, unions, dataclasses (a mapping
    fits), and sequences and mappings with their items. Every value fits any other annotation.
    """
    if _fits(value, annotation):
        return None
    if get_origin(annotation) is Literal and isinstance(value, str):
        choices = [choice for choice in get_args(annotation) if isinstance(choice, str)]
        return f"is {value!r}, which is not one of {_describe(annotation)}; {nearest(value, choices)}"
    return f"is {value!r} ({type(value).__name__}); expected {_describe(annotation)}"


def _fits(value: object, annotation: Any) -> bool:
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (None, type(None)):
        return value is None
    if origin in (Union, types.UnionType):
        return any(_fits(value, choice) for choice in arguments)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if origin is bool:
        return isinstance(value, bool)
    if origin is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if origin is str:
        return isinstance(value, str)
    if origin is Path:
        return isinstance(value, (str, Path))
    if origin is tuple:
        return _fits_tuple(value, arguments)
    if dataclasses.is_dataclass(origin):
        return isinstance(value, (Mapping, origin))  # type: ignore[arg-type]
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and (
            not arguments
            or all(_fits(key, arguments[0]) and _fits(item, arguments[1]) for key, item in value.items())
        )
    if inspect.isclass(origin) and issubclass(origin, Collection):
        return _is_list(value) and (not arguments or all(_fits(item, arguments[0]) for item in value))  # type: ignore[attr-defined]
    return True


def _fits_tuple(value: object, arguments: tuple) -> bool:
    if not _is_list(value):
        return False
    items = list(value)  # type: ignore[call-overload]
    if not arguments:
        return True
    if arguments[-1] is Ellipsis:
        return all(_fits(item, arguments[0]) for item in items)
    return len(items) == len(arguments) and all(map(_fits, items, arguments))


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _describe(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is Literal:
        return ", ".join(repr(choice) for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(choice) for choice in arguments)
    if annotation is Ellipsis:
        return "..."
    name = getattr(annotation, "__name__", str(annotation))
    return f"{name}[{', '.join(map(_describe, arguments))}]" if arguments else name
