"""The table of datasets: ``python -m pyg_schnet.datasets``."""

import argparse
import json
from dataclasses import asdict

from pyg_schnet.datasets.registry import FAMILIES, REGISTRY, overview


def main(arguments: list[str] | None = None) -> None:
    """List what datasets there are and what of them is on this machine.

    Args:
        arguments: Of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pyg_schnet.datasets", description="What datasets there are and what of them is on this machine."
    )
    parser.add_argument("--root", default="data", help="folder for downloaded and processed files (default: data)")
    parser.add_argument("--source", help="folder with raw files; default: the one that PYG_SCHNET_DATA names")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.json:
        rows = [
            asdict(one)
            | {"here": one.where(options.root, options.source)}
            | {key: getattr(FAMILIES[one.family], key) for key in ("units", "licence", "citation")}
            for one in REGISTRY.values()
        ]
        print(json.dumps(rows, indent=1))
    else:
        print(overview(options.root, options.source))


if __name__ == "__main__":
    main()
