"""What is wrong with a workload file, from pydantic's account of it, in one line."""

from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first of the errors of `model`: where, what, and what would be right."""
    first = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"])
    if first["type"] == "extra_forbidden":
        known = keys_at(model, first["loc"][:-1])
        return f"unknown key {place}; {suggestion(str(first['loc'][-1]), known, 'known here')}"
    if first["type"] == "missing":
        return f"{place} is missing"
    said = " ".join(first["msg"].removeprefix("Value error, ").split())
    if not place or isinstance(first["input"], dict):
        return f"{place}: {said}" if place else said
    return f"{place}: {repr(first['input'])[:60]} is not possible: {said}"


def suggestion(word: str, known: list[str], what: str) -> str:
    """ "did you mean ...?" with the nearest of the known words, or all of them if none is near."""
    if not known:
        return "there is none"
    near = get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else f"{what}: {', '.join(known)}"


def keys_at(model: Any, location: tuple[int | str, ...]) -> list[str]:
    """The keys that the mapping at this place of a file of that model may have."""
    for step in location:
        if isinstance(step, str) and step in model.model_fields:
            model = _model_in(model.model_fields[step].annotation)
    return list(model.model_fields)


def _model_in(annotation: Any) -> Any:
    """The model inside `X`, `X | None`, `tuple[X, ...]` or `dict[str, X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
