"""Stages: the registers of a pipeline that freezes as a whole."""

from amaranth.hdl import Module, Signal, Value, ValueLike

__all__ = ["Stages"]


class Stages:
    """Makes registers that all take their new value when ``advance`` is 1 and hold it otherwise.

    They are not reset: a register that says whether a stage holds anything is made with ``flag``.
    """

    def __init__(self, m: Module, advance: Value):
        self.m, self.advance = m, advance

    def _register(self, register: Signal, value: Value) -> Signal:
        with self.m.If(self.advance):
            self.m.d.sync += register.eq(value)
        return register

    def flag(self, value: ValueLike, name: str) -> Signal:
        """One bit, one stage later; 0 after reset."""
        return self._register(Signal(name=name), Value.cast(value))

    def after(self, value: ValueLike, name: str) -> Signal:
        """The value one stage later."""
        value = Value.cast(value)
        return self._register(Signal(value.shape(), name=name, reset_less=True), value)

    def along(self, value: ValueLike, name: str, stages: int) -> list[Value]:
        """The value, and its copies in the stages that follow."""
        copies = [Value.cast(value)]
        for stage in range(stages):
            copies.append(self.after(copies[-1], f"{name}_{stage + 1}"))
        return copies

    def delayed(self, value: ValueLike, name: str, stages: int) -> Value:
        """The value, so many stages later."""
        return self.along(value, name, stages)[-1]
