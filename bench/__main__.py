"""python -m bench [LOAD...]: runs the loads, prints a table of each, writes results.json and an SVG of each."""

from __future__ import annotations

import argparse
import compileall
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from bench import chart, choking, dht_simulation, machine, report
from bench.clients import ALL, Client
from bench.loads import LOADS
from bench.loads.base import Load, Scale
from bench.payload import MIB, source_folder
from bench.results import LoadResult, Sample, Summary
from bench.tools import ROOT, ToolError, build, compiler

CLIENTS: tuple[Client, ...] = tuple(dict.fromkeys((*ALL, *(client for load in LOADS.values() for client in load.clients))))
SIMULATIONS = {"dht": dht_simulation, "choking": choking}
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def size(text: str) -> int:
    """Bytes of `64M`, `4GiB` or a plain number; whole MiB, so that it is whole pieces everywhere."""
    number = text.upper().removesuffix("IB").removesuffix("B")
    unit = UNITS.get(number[-1:], 1)
    try:
        value = int(float(number.rstrip("KMG")) * unit)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size") from None
    if value < MIB or value % MIB:
        raise argparse.ArgumentTypeError(f"{text}: must be a multiple of 1 MiB")
    return value


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    names = ", ".join(dict.fromkeys(client.name for client in CLIENTS))
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures btfast beside other downloaders.")
    parser.add_argument("loads", nargs="*", metavar="LOAD", help=f"which loads, default all: {' '.join([*LOADS, *SIMULATIONS])}")
    parser.add_argument("--rounds", type=int, default=5, help="every client runs once a round (default 5)")
    parser.add_argument("--size", type=size, default=0, help="payload of flat, pipe and crowd instead of their own")
    parser.add_argument("--only", default="", metavar="CLIENT,...", help=f"only these: {names}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes and one round: does everything work?")
    parser.add_argument("--dest", type=Path, default=Path("/var/tmp"), help="where downloads go (default /var/tmp)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="where the results go")
    arguments = parser.parse_args(words)
    arguments.only = [name for name in arguments.only.split(",") if name]
    for name in arguments.loads:
        if name not in LOADS and name not in SIMULATIONS:
            parser.error(f"no load {name!r}: there are {', '.join([*LOADS, *SIMULATIONS])}")
    for name in arguments.only:
        if name not in {client.name for client in CLIENTS}:
            parser.error(f"no client {name!r}: there are {names}")
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    if not os.access(arguments.dest, os.W_OK):
        parser.error(f"--dest {arguments.dest}: not a folder that can be written")
    return arguments


def run_load(load: Load, clients: Sequence[Client], missing: dict[str, str], rounds: int) -> tuple[LoadResult, Summary]:
    """Runs one load's rounds and prints each sample as it comes."""

    def tell(sample: Sample) -> None:
        print(report.sample_line(load, sample), file=sys.stderr, flush=True)

    with load:
        samples = load.rounds(clients, rounds, tell)
    summary = Summary(samples)
    clients_summed = list(summary.clients.values())
    result = LoadResult(load.name, load.describe(), missing, samples, clients_summed, load.goals(summary))
    return result, summary


def write_results(folder: Path, facts: dict[str, str], results: Sequence[LoadResult]) -> Path:
    """Writes results.json; called after each load, so that a run that is cut short leaves what it has."""
    path = folder / "results.json"
    document = {"v": 1, "machine": facts, "loads": results}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1))
    return path


def run_simulation(name: str, quick: bool) -> None:
    """Prints what a simulation on a virtual clock found."""
    print(f"\n{name}: {SIMULATIONS[name].describe(quick)}", file=sys.stderr, flush=True)
    print("\n" + "\n".join(SIMULATIONS[name].figures(quick)), flush=True)


def end(number: int, _: object) -> NoReturn:
    """SIGTERM leaves through the context managers, as Ctrl-C does: nothing stays behind on disk."""
    raise SystemExit(128 + number)


def main(words: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 when a client failed or delivered wrong bytes. A missed goal is a finding, not a failure."""
    arguments = parse_arguments(words)
    signal.signal(signal.SIGTERM, end)
    # As where it was installed: with bytecode, also where Python is told to write none.
    compileall.compile_dir(ROOT / "btfast", quiet=1)
    loads = [name for name in arguments.loads or LOADS if name in LOADS]
    simulations = [name for name in arguments.loads or SIMULATIONS if name in SIMULATIONS]
    if not loads:
        for name in simulations:
            run_simulation(name, arguments.quick)
        return 0
    scale = Scale(quick=arguments.quick, size=arguments.size)
    rounds = 1 if arguments.quick and arguments.rounds == 5 else arguments.rounds
    try:
        compiler()
        for tool in ("payload", "seed", "idle", "relay", "tracker", "announce", "announce_http", "meter"):
            build(tool)
    except ToolError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    reasons = {client.name: client.missing() for client in CLIENTS}
    versions = {client.name: client.version() for client in CLIENTS if reasons[client.name] is None}
    facts = machine.facts(arguments.dest, source_folder(1), versions)
    facts["started"] = time.strftime("%Y-%m-%d %H:%M:%S %z")
    facts["load average"] = " ".join(f"{value:.2f}" for value in os.getloadavg())
    for name, fact in facts.items():
        print(f"{name}: {fact}")
    if os.getloadavg()[0] > 0.5:
        print("This machine is busy with something else: trust the ratios more than the figures, and both little.")
    arguments.out.mkdir(parents=True, exist_ok=True)

    results: list[LoadResult] = []
    for name in loads:
        load = LOADS[name](scale, arguments.dest)
        wanted = [client for client in load.clients if not arguments.only or client.name in arguments.only]
        missing = {client.name: reason for client in wanted if (reason := reasons[client.name])}
        clients = [client for client in wanted if client.name not in missing]
        print(f"\n{load.name}: {load.describe()}", file=sys.stderr, flush=True)
        result, summary = run_load(load, clients, missing, rounds)
        results.append(result)
        print("\n" + report.table(load, result, summary), flush=True)
        columns = [column for column in load.columns if column.key in load.charted]
        picture = arguments.out / f"{load.name}.svg"
        picture.write_text(chart.draw(f"{load.name}: {load.describe()}", result.clients, columns))
        path = write_results(arguments.out, facts, results)
    for name in simulations:
        run_simulation(name, arguments.quick)
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    print(f"\nEvery sample is in {shown}, a chart of each load beside it.")
    return int(any(sample.failure for result in results for sample in result.samples))


if __name__ == "__main__":
    raise SystemExit(main())
