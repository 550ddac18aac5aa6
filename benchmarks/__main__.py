"""`make bench`: every benchmark that takes minutes, one after another; in the end what shipping a model costs.

The model that is shipped is that of `examples/three_tasks.yaml`, trained to `runs/three` unless it is there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COMMANDS = [
    ["startup"],
    ["training"],
    ["recipe"],
    ["recipe", "--time", "--threads", "2"],
    ["gaps"],
    ["attention"],
    ["sharing"],
    ["scheduling"],
    ["balancing"],
    ["conflict"],
    ["planted"],
    ["showcase"],
    ["gallery"],
    ["article"],
    ["relatedness"],
    ["payoff"],
    *(["strategies", "--vary", section] for section in ("sharing", "schedule", "balance")),
]
SHIPPED = Path("runs/three")
SHIPPING = [["prediction", "--model", str(SHIPPED / "model")], ["serving", "--model", str(SHIPPED / "model")]]


def run(module: str, *options: str) -> None:
    print(f"\n## {' '.join([module, *options])}\n", flush=True)
    subprocess.run([sys.executable, "-m", module, *options], check=True)


for name, *rest in COMMANDS:
    run(f"benchmarks.{name}", *rest, *sys.argv[1:])
if not SHIPPED.exists():
    run("polytask", "train", "examples/three_tasks.yaml", "--out", str(SHIPPED))
for name, *rest in SHIPPING:
    run(f"benchmarks.{name}", *rest, *sys.argv[1:])
