"""Evidently's data-drift preset on two tables; runs in Evidently's own environment.

Invariant: its public interface, as it comes and with the Kolmogorov-Smirnov test asked for; only the check is timed.
Reads the .npz named on the command line (reference, current: rows x features), answers one JSON line.
"""

import json
import sys
import time
import warnings

import numpy as np
import pandas as pd

warnings.simplefilter("ignore")
from evidently import Report, __version__  # noqa: E402
from evidently.presets import DataDriftPreset  # noqa: E402

tables = np.load(sys.argv[1])
names = [f"x{i}" for i in range(tables["reference"].shape[1])]
reference, current = (pd.DataFrame(tables[side], columns=names) for side in ("reference", "current"))
answer = {"version": __version__}
for name, options in (("default", {}), ("ks", {"num_method": "ks"})):
    start = time.perf_counter()
    Report([DataDriftPreset(**options)]).run(current, reference).dict()
    answer[name] = time.perf_counter() - start
print(json.dumps(answer))
