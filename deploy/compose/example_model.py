"""A first champion for docker-compose.yml: trains a small classifier, unless a model is there already.
Invariant: a file that exists is never touched."""

import sys
from pathlib import Path

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gauntlet.registry import artifact


def main() -> int:
    path = Path(sys.argv[1])
    if path.exists():
        sys.stdout.write(f"{path} is there already\n")
        return 0
    iris = load_iris(as_frame=True)
    rows = iris.data.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_"))
    species = iris.target.map(dict(enumerate(iris.target_names.tolist())))
    aside = path.with_name(f"new-{path.name}")
    artifact.save(make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(rows, species), aside)
    aside.replace(path)
    sys.stdout.write(f"trained {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
