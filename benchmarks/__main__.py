"""`make bench`: every benchmark that takes minutes, one after another."""

from __future__ import annotations

import subprocess
import sys

# benchmarks.prediction and benchmarks.serving need a trained model: see docs/shipping.md.
COMMANDS = [
    ["startup"],
    ["training"],
    ["sharing"],
    ["scheduling"],
    ["balancing"],
    ["conflict"],
    ["relatedness"],
    ["payoff"],
    *(["strategies", "--vary", section] for section in ("sharing", "schedule", "balance")),
]
for module, *rest in COMMANDS:
    print(f"\n## {' '.join([module, *rest])}\n", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *rest, *sys.argv[1:]], check=True)
