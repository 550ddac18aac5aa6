"""`make bench`: every benchmark that takes minutes, one after another."""

from __future__ import annotations

import subprocess
import sys

for module in ("startup", "training", "sharing", "conflict", "strategies"):
    print(f"\n## {module}\n", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *sys.argv[1:]], check=True)
