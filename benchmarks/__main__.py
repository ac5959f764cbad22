"""`python -m benchmarks`: serving and evaluation rates, every line made in this run."""

from __future__ import annotations

import platform

from benchmarks import evaluator_rate, predict_route


def main() -> None:
    print(f"Python {platform.python_version()}, {platform.machine()}\n")
    for part in (predict_route, evaluator_rate):
        print("\n".join(part.run()), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
