"""How fast is the dream? `cosmos-wm benchmark --json FILE` measures it beside what it is compared with."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from cosmos_isaac_wm.storage.atomic import write_json
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.train.speed.environments import environments, error_bounds, observations, other_libraries
from cosmos_isaac_wm.train.speed.gpu import device_steps
from cosmos_isaac_wm.train.speed.growth import growth, start_up
from cosmos_isaac_wm.train.speed.harness import Bench, DreamOptions
from cosmos_isaac_wm.train.speed.learning import training
from cosmos_isaac_wm.train.speed.network import matrix_peak, seed_form
from cosmos_isaac_wm.train.speed.page import draw, machine, table
from cosmos_isaac_wm.train.speed.reality import real_simulator
from cosmos_isaac_wm.world_model import WorldModel


@dataclass(frozen=True)
class Benchmark:
    """Measure the dream's speed beside its bare network, the report's form of it, and the real simulator.

    Writes `benchmark.json` and `benchmark.png` to OUT and prints the table. Nothing else should run meanwhile.

    Attributes:
        out: Folder for the results.
        world_model: A shipped bundle's name, a folder, or "hf://owner/repository".
        batches: Numbers of environments; 1, 8, 64, 256 and 1024 when not given.
        repeats: How often each thing is measured, in turns with what it is compared with.
        seconds: How long each measurement takes at least.
        growth_steps: Steps of the run that looks for leaks.
        dtype: Precision of the dream's network.
        compile: Compile it.
        device: "auto", "cpu" or "cuda".
        seed: Seed of actions and start contexts.
    """

    out: Path = Path("benchmark-out")
    world_model: str = "default"
    batches: list[int] | None = None
    repeats: int = 5
    seconds: float = 0.5
    growth_steps: int = 10_000
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = True
    device: str = "auto"
    seed: int = 0

    def run(self) -> dict[str, float]:
        """Measure, and show; the figures."""
        model = WorldModel.load(self.world_model, self.device)
        bench = Bench(self.repeats, self.seconds, model.device)
        numbers: dict[str, float] = {}
        for part in tqdm(self._parts(model, bench, numbers), desc="benchmark", unit="part"):
            numbers |= part()
        print(table(bench.rows, numbers))
        self.out.mkdir(parents=True, exist_ok=True)
        rows = [dataclasses.asdict(row) | {"steps_per_s": row.steps_per_s, "spread": row.spread} for row in bench.rows]
        described = {"machine": machine(model.device), "options": self._options, "figures": numbers, "rows": rows}
        write_json(self.out / "benchmark.json", described)
        draw(self.out / "benchmark.png", bench.rows)
        print(f"\nbenchmark.json and benchmark.png in {self.out}")
        return numbers

    @property
    def _options(self) -> DreamOptions:
        return {"dtype": self.dtype, "compile": self.compile}

    def _parts(
        self, model: WorldModel, bench: Bench, numbers: dict[str, float]
    ) -> list[Callable[[], dict[str, float]]]:
        """What is measured, in order; a part may need the numbers of those before it."""
        options, seed, batches = self._options, self.seed, self.batches or [1, 8, 64, 256, 1024]
        return [
            lambda: start_up(self.world_model, self.repeats),
            # Early: what others leave behind would hide a leak.
            lambda: growth(model, self.growth_steps, options, seed),
            lambda: matrix_peak(bench, model.device),
            lambda: environments(bench, model, batches, options, numbers, seed),
            lambda: observations(bench, model, options, seed),
            lambda: error_bounds(bench, model, options, seed),
            lambda: device_steps(bench, model, options, seed),
            lambda: seed_form(bench, model, options),
            lambda: other_libraries(bench, model, options, seed),
            lambda: real_simulator(bench, model, options, seed),
            lambda: training(model, seed),
        ]


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm benchmark` command."""
    return cli.run(Benchmark, "benchmark", argv)


if __name__ == "__main__":
    sys.exit(main())
