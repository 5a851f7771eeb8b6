"""Write a model that passes all gates with its card, for the package or the Hugging Face hub.

    python datasets/organic_xtb/release.py results/organic_xtb/last/model.safetensors --out results/organic_xtb

``gates.json`` of the folder is what ``gates.py`` found; a model that fails a gate, or was not put to one, is refused.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from gates import GATES, verdicts
from labels import Frame, read_frames
from torch_geometric.data import Batch, Data

from pyg_schnet import load, save
from pyg_schnet.models import read_header
from pyg_schnet.models.elements import NEIGHBORHOOD, TrainingSet
from pyg_schnet.models.registry import FOLDER

NAME = "organic-xtb"
#: Frames that are counted together.
AT_ONCE = 500


def card_of(found: dict[str, dict[str, Any]], structures: int) -> dict[str, Any]:
    """The card of the model.

    Args:
        found: Figures by part, as in ``gates.json``.
        structures: How many frames it was trained on.

    Returns:
        Entries of the card.
    """
    frames, own, barriers = found["frames"], found["own_paths"], found["barriers"]["molecules"]
    waves, still, water = found["vibrations"], found["constant_energy"], found["water_dimer"]
    turned = ", ".join(f"{name} {one['model_kcal'] - one['reference_kcal']:+.1f}" for name, one in barriers.items())
    errors = [
        {"target": "forces", "mae": round(frames["forces_mev"]), "unit": "meV/Å", "structures": frames["frames"]},
        {
            "target": "energy per atom",
            "mae": float(f"{frames['energy_mev_per_atom']:.2g}"),
            "unit": "meV",
            "structures": frames["frames"],
        },
    ]
    return {
        "summary": "A general force field for small neutral molecules of H, C, N, O and F, learnt from GFN2-xTB.",
        "data": f"{structures:,} frames labelled with GFN2-xTB (tblite) in datasets/organic_xtb: relaxations, dynamics"
        ", noise, pairs of molecules, turned and bent groups, and where the model itself went; of 8,000 molecules",
        "data_licence": "MIT, made by this project",
        "training": "on energies and forces in steps of 32 frames; long with the squared loss of the paper, in the end "
        "with an absolute one and rho = 1; hours of one core",
        "errors": errors,
        "applicability": "structures, vibrations, conformers and dynamics, up to some 500 K, of single neutral "
        "molecules with closed shells and up to some twelve heavy atoms, as GFN2-xTB has them: on molecules it never "
        f"saw {own['energy_mev_per_atom']:.1f} meV/atom on its own paths, wavenumbers within {waves['mae']:.0f} 1/cm ("
        f"median {waves['median']:.0f}), minima {found['relaxations']['median_kcal']:.1f} kcal/mol above the true ones "
        f"in the median, {still['stable']:.0f} of 100 molecules whole after {still['picoseconds']:g} ps at 300 K",
        "limits": "GFN2-xTB is no thermochemistry, and this is not better; other elements, ions, radicals, broken "
        f"bonds; liquids, as hydrogen bonds between molecules are too weak (two waters {water['model_0']:.1f} instead "
        f"of {water['reference_0']:.1f} kcal/mol); errors of barriers in kcal/mol: {turned}",
        "licence": "MIT",
        "made_by": "python datasets/organic_xtb/make.py",
        "tags": ["force field", "molecular dynamics", "GFN2-xTB"],
    }


def seen_in(frames: list[Frame]) -> TrainingSet:
    """What the frames have, each counted once: each training adds its own to what the model says."""
    data = [Data(z=torch.from_numpy(one.numbers), pos=torch.from_numpy(one.positions)) for one in frames]
    batches = (Batch.from_data_list(data[first : first + AT_ONCE]) for first in range(0, len(data), AT_ONCE))
    return TrainingSet.of(batches, cutoff=NEIGHBORHOOD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the model file")
    parser.add_argument("--out", type=Path, required=True, help="folder with gates.json")
    parser.add_argument("--into", type=Path, default=FOLDER, help="folder of the models")
    args = parser.parse_args()
    found = json.loads((args.out / "gates.json").read_text())
    rows = verdicts(found)
    failed = [gate.text for gate, _, passed in rows if not passed]
    missing = [gate.text for gate in GATES if gate.part not in found]
    if failed or missing:
        sys.exit(f"not released: failed {failed or 'nothing'}, not tried {missing or 'nothing'}")
    frames = read_frames(path for path in args.out.glob("*/*.npz") if path.name != "split.npz")
    args.into.mkdir(parents=True, exist_ok=True)
    model = load(args.model)
    model.training_set = seen_in(frames)
    training = read_header(args.model).get("training")
    save(model, args.into / NAME, card=card_of(found, len(frames)), training=training)
    print(args.into / NAME)


if __name__ == "__main__":
    main()
