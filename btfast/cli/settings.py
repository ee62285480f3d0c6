"""From options to Settings."""

from __future__ import annotations

import msgspec

from btfast.cli.options import BY_NAME, Options
from btfast.config import Settings
from btfast.errors import InputError


def shows_details(options: Options) -> bool:
    """Whether anybody sees what becomes of single peers and files."""
    return bool(options["json"] or options["verbose"] or options.text("log"))


def settings_of(options: Options) -> Settings:
    """Settings from what was given. Raises InputError that names the option."""
    try:
        return msgspec.convert(options.fields(), Settings)
    except msgspec.ValidationError as error:
        why, _, field = str(error).partition(" - at `$.")
        field = field.rstrip("`")
        name = next((name for name, option in BY_NAME.items() if field and option.field == field), "")
        if not name:
            raise InputError(f"settings: {error}: correct them") from error
        why = why[:1].lower() + why[1:].replace("`", "")
        raise InputError(f"{options.spelled(name)}: {options[name]}: {why}: correct it") from error
