"""What a container is told by its environment, and whether its program understands it.

The programs' own settings are asked: a variable that none of them has, or a value that they refuse,
is found here and not by a pod that does not start.
"""

import functools
import importlib
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import certifi
from pydantic_settings import BaseSettings

from deploy.rights import SERVICES
from pixcrawler.common import prepare
from pixcrawler.common.errors import SettingsError
from pixcrawler.common.settings import load

MOUNTED = ("/etc/pixcrawler/kafka/ca.crt", "/etc/pixcrawler/postgres/ca.crt")
"""Files of authorities that are there only in a cluster."""


def settings_of(service: str) -> type[BaseSettings]:
    """The settings of a service."""
    found: type[BaseSettings] = importlib.import_module(f"pixcrawler.{service}.settings").Settings
    return found


def variables_of(model: type[BaseSettings]) -> frozenset[str]:
    """The environment variables that a program reads."""
    prefix = model.model_config.get("env_prefix", "")
    return frozenset(
        str(field.validation_alias or f"{prefix}{name}".upper())
        for name, field in model.model_fields.items()
    )


def programs_of(command: Collection[str], service: str) -> tuple[type[BaseSettings], ...]:
    """Whose settings count: those of the preparation where that is started, else the service's."""
    words = set(command)
    if "pixcrawler.common.prepare" in words:
        return (prepare.Topics,) if "topics" in words else (prepare.Database,)
    return (settings_of(service),)


def all_variables() -> frozenset[str]:
    """Every variable of any program."""
    models: list[type[BaseSettings]] = [*map(settings_of, SERVICES)]
    models += [prepare.Database, prepare.Topics]
    return frozenset(name for model in models for name in variables_of(model))


def understood(told: Mapping[str, str], model: type[BaseSettings]) -> str:
    """Why a program refuses to start with this environment; empty if it does not."""
    try:
        read(told, model)
    except SettingsError as error:
        return str(error)
    return ""


def read(told: Mapping[str, str], model: type[BaseSettings]) -> Any:
    """The settings as the program has them.

    Raises:
        SettingsError: it refuses to start with this environment.
    """
    return _read(frozenset(told.items()), model)


@functools.lru_cache(maxsize=256)
def _read(told: frozenset[tuple[str, str]], model: type[BaseSettings]) -> BaseSettings:
    with only(dict(told)):
        return load(model)


@contextmanager
def only(told: Mapping[str, str]) -> Iterator[None]:
    """This environment and nothing else; files that only a cluster has are replaced by one here."""
    here = dict(told)
    for name, value in here.items():
        for file in MOUNTED:
            here[name] = here[name].replace(file, certifi.where()) if file in value else here[name]
    with mock.patch.dict(os.environ, here, clear=True):
        yield
