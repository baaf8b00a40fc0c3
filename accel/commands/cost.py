"""``accel cost``: area of a machine and the factors that its energy and area are made of."""

import argparse

from accel.commands._machine import add_machine_arguments, machine_of

HELP = "area of a machine, and the energy of everything that is counted"
EXAMPLES = ("accel cost", "accel cost --arch spatten-1-8 --set technology_nm=28")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_machine_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Print both tables."""
    from accel.cost.area import area
    from reports.cost_table import print_cost
    from reports.page import console

    arch, _ = machine_of(args)
    print_cost(arch, area(arch), console())
