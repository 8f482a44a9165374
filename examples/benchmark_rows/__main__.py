"""`python -m examples.benchmark_rows --out DIR`: see the package."""

import argparse
from pathlib import Path

from examples import benchmark_rows


def main() -> None:
    """Parse the command line and write the fixtures."""
    parser = argparse.ArgumentParser(
        description=benchmark_rows.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    for name, folder in benchmark_rows.write(parser.parse_args().out).items():
        print(f"{name}: {folder}")


if __name__ == "__main__":
    main()
