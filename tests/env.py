"""Settings of the servers under test, as values."""

from typing import TypeAlias, TypeVar

from services.runtime.settings import Settings

Env: TypeAlias = dict[str, str]
"""`MILLRACE_…` settings by name."""

_S = TypeVar("_S", bound=Settings)


def settings_from(kind: type[_S], env: Env) -> _S:
    """Settings of a kind from an environment given as a value, whatever the process's own holds."""
    fields = {name: env[key] for name in kind.model_fields if (key := f"MILLRACE_{name.upper()}") in env}
    return kind.model_validate(fields)
