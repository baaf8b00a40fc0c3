"""Programs for the whole engine, under the name by which the tests know them."""

from accel.verify.cases import EngineCase, directed_cases, random_case, random_cases, unsupported

__all__ = ["EngineCase", "directed_cases", "random_case", "random_cases", "unsupported"]
