"""Print the settings in force and where each comes from."""

from __future__ import annotations

import argparse

from btfast.cli.options import BY_NAME, TABLE, Option, Options, Value, resolve

OPTIONS = tuple(option.name for option in TABLE if option.name == option.spelling)
ELSEWHERE = tuple(option.name for option in TABLE if option.name != option.spelling)  # spelled as another verb's option


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes every option, so that a command line can be tried out."""


def run(parsed: argparse.Namespace, options: Options) -> int:
    from btfast.cli.settings import settings_of

    settings = settings_of(options)
    others = resolve(ELSEWHERE, {"config": options["config"]})
    options.values |= others.values
    options.origins |= others.origins
    for name in (*OPTIONS, *ELSEWHERE):
        if name in ("input", "config"):
            continue
        option = BY_NAME[name]
        value = getattr(settings, option.field) if option.field and not options.given(name) else options[name]
        print(f"{_toml(option, value):<32} # {options.origins[name]}")
    return 0


def _toml(option: Option, value: Value) -> str:
    """The line as it would stand in btfast.toml; a comment where the default has no value."""
    if option.kind in ("flag", "switch"):
        text = "true" if value else "false"
    elif value is None:
        return f"# {option.name} is not set"
    elif isinstance(value, (list, tuple)):
        text = f"[{', '.join(_quoted(item) for item in value)}]"
    elif isinstance(value, str):
        text = _quoted(value)
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{option.name} = {text}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'
