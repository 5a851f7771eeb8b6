"""Write a model that passes all gates with its card, for the package or the Hugging Face hub.

    python datasets/organic_xtb/release.py results/organic_xtb/last/model.safetensors --out results/organic_xtb

``gates.json`` of the folder is what ``gates.py`` found; a model that fails a gate, or was not put to one, is refused.
``afresh/gates.json`` is what it found of ``afresh.smi``; the card tells those errors, which had no part in any choice.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from gates import GATES, verdicts
from labels import Frame, read_frames
from smiles import listed
from torch_geometric.data import Batch, Data

from pyg_schnet import load, save
from pyg_schnet.models import read_header
from pyg_schnet.models.elements import NEIGHBORHOOD, TrainingSet
from pyg_schnet.models.registry import FOLDER

NAME = "organic-xtb"
#: Parts of the gates that are told of molecules afresh.
AFRESH = ("frames", "own_paths", "vibrations", "relaxations", "conformers", "barriers")
#: Frames that are counted together.
AT_ONCE = 500


class Seen(NamedTuple):
    """What a model was trained on.

    Attributes:
        frames: How many frames.
        molecules: Of how many molecules.
    """

    frames: int
    molecules: int


def card_of(found: dict[str, dict[str, Any]], afresh: dict[str, dict[str, Any]], seen: Seen) -> dict[str, Any]:
    """The card of the model.

    Args:
        found: Figures by part, as in ``gates.json``.
        afresh: The same of molecules that had no part in any choice.
        seen: What it was trained on.

    Returns:
        Entries of the card.
    """
    frames, own, waves = afresh["frames"], afresh["own_paths"], afresh["vibrations"]
    shapes = afresh["conformers"]
    still, water, barriers = found["constant_energy"], found["water_dimer"], found["barriers"]["molecules"]
    turned = ", ".join(f"`{name}` {one['model_kcal'] - one['reference_kcal']:+.1f}" for name, one in barriers.items())
    worst = max(waves["molecules"], key=waves["molecules"].get)
    highest = waves["molecules"][worst]
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
        "data": f"{seen.frames:,} frames labelled with GFN2-xTB (tblite) in datasets/organic_xtb: relaxations, dynamics"
        ", noise, pairs of molecules, turned and bent groups, and where the model itself went; of "
        f"{seen.molecules:,} molecules",
        "data_licence": "MIT, made by this project",
        "training": "on energies and forces in steps of 32 frames; long with the squared loss of the paper, in the end "
        "with an absolute one and rho = 1; hours of one core, of which datasets/organic_xtb/README.md tells",
        "errors": errors,
        "applicability": "structures, vibrations, conformers and dynamics, up to some 500 K, of single neutral "
        "molecules with closed shells and up to some twelve heavy atoms, as GFN2-xTB has them: on "
        f"{len(listed('afresh.smi'))} molecules that it never saw and that had no part in any choice "
        f"{own['energy_mev_per_atom']:.1f} meV/atom on its own paths, wavenumbers within {waves['mae']:.0f} 1/cm "
        f"(median {waves['median']:.0f}; within {found['vibrations']['mae']:.0f} for those by which it was chosen), "
        f"conformers within {shapes['mae_kcal']:.1f} kcal/mol (Spearman {shapes['spearman']:.2f}), minima "
        f"{afresh['relaxations']['median_kcal']:.2f} kcal/mol above the true ones in the median; {still['stable']:.0f} "
        f"of 100 molecules whole after {still['picoseconds']:g} ps at 300 K",
        "limits": "GFN2-xTB is no thermochemistry, and this is not better; other elements, ions, radicals, broken "
        f"bonds; liquids, as hydrogen bonds between molecules are too weak (two waters {water['model_0']:.1f} instead "
        f"of {water['reference_0']:.1f} kcal/mol); wavenumbers are worst, {highest:.0f} 1/cm, for `{worst}`; errors of "
        f"barriers in kcal/mol: {turned}; of molecules afresh up to {afresh['barriers']['largest_kcal']:.1f}",
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
    parser.add_argument("--out", type=Path, required=True, help="folder with gates.json and afresh/gates.json")
    parser.add_argument("--into", type=Path, default=FOLDER, help="folder of the models")
    args = parser.parse_args()
    found, afresh = (json.loads((args.out / name).read_text()) for name in ("gates.json", "afresh/gates.json"))
    rows = verdicts(found)
    failed = [gate.text for gate, _, passed in rows if not passed]
    missing = [gate.text for gate in GATES if gate.part not in found]
    missing += [f"{part} afresh" for part in AFRESH if part not in afresh]
    if failed or missing:
        sys.exit(f"not released: failed {failed or 'nothing'}, not tried {missing or 'nothing'}")
    frames = read_frames(path for path in args.out.glob("*/*.npz") if path.name != "split.npz")
    molecules = {part for one in frames for part in one.molecule.split(".")}
    seen = Seen(len(frames), len(molecules))
    args.into.mkdir(parents=True, exist_ok=True)
    model = load(args.model)
    model.training_set = seen_in(frames)
    training = read_header(args.model).get("training")
    save(model, args.into / NAME, card=card_of(found, afresh, seen), training=training)
    print(args.into / NAME)


if __name__ == "__main__":
    main()
