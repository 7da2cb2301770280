"""YAML to typed dataclasses. An unknown key is an error that names the nearest one, the file and the line."""

import ast
import dataclasses
import inspect
import itertools
import json
import reprlib
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from grefine.errors import ConfigError, nearest
from grefine.io.content import content_hash

T = TypeVar("T")
_SHOWN = reprlib.Repr()
"""Writes the beginning of a value: a kilobyte of YAML can stand for gigabytes."""
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxother = 2, 120, 120


def load_config(path: str | Path, schema: type[T], overrides: dict[str, Any] | None = None) -> T:
    """Read `path` into the dataclass `schema`; `overrides` (by field name) win over the file."""
    import yaml

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None and not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"'{path}' must hold `key: value` lines, not a single value or a list.")
        hints, loader, values = typing.get_type_hints(schema), yaml.SafeLoader(""), {}
        fields = {f.name for f in dataclasses.fields(schema)}  # type: ignore[arg-type]
        for key, node in root.value if root is not None else ():
            where = f"'{path}' line {key.start_mark.line + 1}"
            if not isinstance(key.value, str) or key.value not in fields:
                raise _unknown(key.value[:60] if isinstance(key.value, str) else "?", schema, where)
            value = loader.construct_object(node, deep=True)
            values[key.value] = _coerce(value, hints[key.value], f"{where}: '{key.value}'")
        return build(schema, values | (overrides or {}), where=f"'{path}'")
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"Cannot read configuration '{path}': {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"'{path}' is not UTF-8: save it as UTF-8.") from error
    except RecursionError as error:
        raise ConfigError(f"'{path}' is nested too deeply for a configuration.") from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise ConfigError(f"'{path}'{line} is not YAML that can be used: {problem}.") from error


def build(schema: type[T], values: dict[str, Any], where: str = "arguments") -> T:
    """Make a `schema` from plain values, checking names and types."""
    fields = {f.name for f in dataclasses.fields(schema)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(schema)
    for name, value in values.items():
        if name not in fields:
            raise _unknown(name, schema, where)
        values[name] = _coerce(value, hints[name], f"{where}: '{name}'")
    try:
        return schema(**values)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}.") from error


def assignments(entries: Iterable[str], option: str) -> dict[str, str]:
    """Read NAME=VALUE entries of a command's option."""
    found: dict[str, str] = {}
    for entry in entries:
        name, _, value = (part.strip() for part in entry.partition("="))
        if not name or not value:
            raise ConfigError(f"{option} takes NAME=VALUE, not '{entry}'.")
        if name in found:
            raise ConfigError(f"{option} names '{name}' twice: give it once.")
        found[name] = value
    return found


def changes_of(entries: Iterable[str]) -> dict[str, Any]:
    """Read KEY=VALUE entries of `--set`; values are read as YAML."""
    import yaml

    found: dict[str, Any] = {}
    for entry in entries:
        key, equals, text = entry.partition("=")
        if not equals:
            raise ConfigError(f"'{entry}' is not KEY=VALUE, e.g. total_steps=10.")
        try:
            found[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"The value of '{key.strip()}' cannot be read: '{text}'.") from error
    return found


def changed(config: T, changes: Mapping[str, Any], where: str = "settings") -> T:
    """Return a configuration with changes; a mapping changes only what it names of a field that is one."""
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}  # type: ignore[arg-type]
    for name, value in changes.items():
        old = values.get(name)
        if isinstance(value, Mapping) and old is not None:
            old = dataclasses.asdict(old) if dataclasses.is_dataclass(old) else old  # type: ignore[arg-type]
            value = {**old, **value} if isinstance(old, Mapping) else value
        values[name] = value
    return build(type(config), values, where)


def digest(values: Any) -> str:
    """Return a short hash that is equal exactly when two configurations, or plain values, are equal."""
    plain = dataclasses.asdict(values) if dataclasses.is_dataclass(values) else values  # type: ignore[arg-type]
    return content_hash(json.dumps(plain, sort_keys=True, default=str))[:12]


def field_texts(schema: type) -> dict[str, str]:
    """Return what stands under each field of a dataclass in its source, on one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(schema))).body[0].body  # type: ignore[attr-defined]
    found: dict[str, str] = {}
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found


def _unknown(name: str, schema: type, where: str) -> ConfigError:
    """Return the error for a key that `schema` does not have; a key that it once had says what replaced it."""
    replaced = getattr(schema, "REMOVED", {}).get(name)
    if replaced is not None:
        return ConfigError(f"{where}: the key '{name}' is gone: {replaced}")
    return ConfigError(f"{where}: unknown key '{name}'{nearest(name, {f.name for f in dataclasses.fields(schema)})}")


def _coerce(value: Any, hint: Any, where: str) -> Any:
    """Check `value` against a type hint made of builtins, unions, literals, tuples, lists, dicts, dataclasses."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        for option in args:
            try:
                return _coerce(value, option, where)
            except ConfigError:
                continue
        given = [option for option in args if option is not type(None)]
        if len(given) == 1 and typing.get_origin(given[0]) is typing.Literal:
            return _coerce(value, given[0], where)  # its sentence names the nearest word
        raise ConfigError(f"{where} must be {spoken(hint)}, not {_SHOWN.repr(value)}.")
    if origin is typing.Literal:
        if value not in args:
            accepted = ", ".join(map(str, args))
            near = nearest(value[:60], map(str, args)) if isinstance(value, str) else ""
            raise ConfigError(f"{where} must be one of {accepted}, not {_SHOWN.repr(value)}{near}")
        return value
    if origin in (tuple, list):
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} must be a list, not {_SHOWN.repr(value)}.")
        if origin is list or (len(args) == 2 and args[1] is Ellipsis):
            return origin(_coerce(item, args[0], where) for item in value)
        if len(value) != len(args):
            raise ConfigError(f"{where} must have {len(args)} entries, not {len(value)}.")
        return tuple(_coerce(item, arg, where) for item, arg in zip(value, args, strict=True))
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be `name: value` pairs, not {_SHOWN.repr(value)}.")
        return {_coerce(k, args[0], where): _coerce(v, args[1], where) for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be `key: value` lines, not {_SHOWN.repr(value)}.")
        return build(hint, dict(value), where)  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is type(None):
        if value is None:
            return None
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{where} must be {spoken(hint)}, not {_SHOWN.repr(value)}.")


def spoken(hint: Any) -> str:
    """Return what a type hint accepts, in words."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(map(str, options))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(spoken(option) for option in options)
    if origin in (dict, Mapping):
        return "`name: value` pairs"
    return {type(None): "empty", str: "a text", float: "a number", int: "a whole number", bool: "true or false"}.get(
        hint, str(hint).removeprefix("typing.")
    )
