"""Train the models that come with the package, measure their errors, and write them with their cards.

    python datasets/models/make.py --list                     # names and the command of each
    python datasets/models/make.py md17-aspirin md17-ethanol  # ten minutes of one quiet core each
    python datasets/models/make.py md17                       # all whose names begin so

Data are downloaded, or read from the folder that the environment variable PYG_SCHNET_DATA names. A run that was
interrupted, or killed, goes on when the same command is given again; what has been trained is not trained again.
"""

import argparse
import json
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pyg_schnet import load, save
from pyg_schnet.command import main as command
from pyg_schnet.models import read_header
from pyg_schnet.models.registry import FOLDER, nearest

MD17 = "S. Chmiela et al., Sci. Adv. 3, e1603015 (2017)"
QM9 = "R. Ramakrishnan et al., Sci. Data 1, 140022 (2014)"
MATERIALS = (
    "A. Jain et al., APL Mater. 1, 011002 (2013); formation energies per atom as in MEGNet's file mp.2018.6.1.json, "
    "C. Chen et al., Chem. Mater. 31, 3564 (2019)"
)
#: Molecules of MD17, of which there are frames with original labels that may be used freely, and so many steps as some
#: ten minutes of a core hold.
MOLECULES = {
    "aspirin": 20_000,
    "benzene": 40_000,
    "ethanol": 45_000,
    "malonaldehyde": 40_000,
    "naphthalene": 20_000,
    "salicylic-acid": 20_000,
    "toluene": 40_000,
}
#: Units and targets as cards write them.
WRITTEN = {"kcal/mol/Ang": "kcal/mol/Å", "formation_energy": "formation energy"}


@dataclass(frozen=True)
class Recipe:
    """How a model is made.

    Attributes:
        settings: Words of ``pyg-schnet fit``, but for the folder of the run.
        summary: What it predicts.
        data: What it is trained on; ``{}`` is the number of structures.
        data_licence: Licence of the data.
        training: How it is trained; steps, batches and time are written before and behind it.
        applicability: What it is good for.
        limits: What it is not good for.
        tags: Words to find it by.
    """

    settings: str
    summary: str
    data: str
    data_licence: str
    training: str
    applicability: str
    limits: str
    tags: tuple[str, ...]


def of_md17(molecule: str, steps: int) -> Recipe:
    """The one recipe of the force fields of MD17."""
    name = molecule.replace("-", " ")
    dataset = shlex.quote(name)
    return Recipe(
        f"--config md17 --config fast --data.dataset.name {dataset} --trainer.max_steps {steps} "
        "--model.model.repulsion zbl --model.weight_decay 0.03",
        f"Energies and forces of {name} near 500 K.",
        f"{{}} frames of {name} of MD17 with the original labels, PBE with Tkatchenko-Scheffler dispersion ({MD17})",
        "CC0 (A. S. Christensen and O. A. von Lilienfeld, 2020, who published these frames with their original labels)",
        "on energies and forces, rho = 0.01, learning rate 0.005 down to zero on a cosine, clipped gradients, weights "
        "that decay by 0.03",
        f"dynamics, relaxation and vibrations of one molecule of {name} up to some 500 K",
        "other molecules and several of them, whose energies mean nothing; broken bonds; temperatures far above 500 K; "
        "atoms that are not bonded, pushed closer together than in these frames, where energies may fall again",
        ("molecular dynamics", "force field"),
    )


_QM9_LIMITS = "fluorine, of which it has seen few atoms; geometries far from minima; energies to chemical accuracy"
_QM9_DATA = f"{{}} molecules of QM9, or of a subset of it, B3LYP/6-31G(2df,p) ({QM9})"
_QM9_SHORT = "learning rate 0.002 down to zero on a cosine, linear references"

RECIPES: dict[str, Recipe] = {f"md17-{molecule}": of_md17(molecule, steps) for molecule, steps in MOLECULES.items()} | {
    "qm9-schnet": Recipe(
        "--config qm9 --config short --data.split random --data.num_train 11000 --data.num_val 800 "
        "--model.references fit --trainer.max_steps 12000",
        "Energy U0 of small organic molecules at their minima: what SchNet learns in a quarter of an hour.",
        _QM9_DATA,
        "CC0",
        _QM9_SHORT,
        "figures of what SchNet learns; rough energies of molecules of up to nine atoms of C, N and O, with hydrogen, "
        "at their minima",
        _QM9_LIMITS,
        ("QM9",),
    ),
    "qm9-dtnn": Recipe(
        "--config qm9 --config dtnn --config short --data.split random --data.num_train 11000 --data.num_val 800 "
        "--model.references fit --trainer.max_steps 12000",
        "Energy U0 of small organic molecules by a deep tensor neural network, with which figure 5 of the paper "
        "compares SchNet.",
        f"{_QM9_DATA}, those of `qm9-schnet`",
        "CC0",
        _QM9_SHORT,
        "comparison with SchNet",
        _QM9_LIMITS,
        ("QM9", "DTNN"),
    ),
    "qm9-properties": Recipe(
        "--config qm9 --config short --data.split random --data.num_train 10000 --data.num_val 1000 "
        "--model.targets [mu,alpha,r2,zpve,U0,U,H,G,Cv] --model.model.out_channels 9 --model.model.num_interactions 3 "
        "--model.references fit --trainer.max_steps 10000",
        "Nine properties of small organic molecules at their minima, by one network.",
        _QM9_DATA,
        "CC0",
        f"on all targets at once, {_QM9_SHORT}",
        "rough values for molecules of up to nine atoms of C, N and O, with hydrogen, at their minima",
        f"dipole moments and extents, which one network of sums learns badly; {_QM9_LIMITS}",
        ("QM9",),
    ),
    "materials-formation-energy": Recipe(
        "--config materials --config short --data.num_train 27000 --trainer.max_steps 120000 --model.loss absolute "
        "--model.weight_decay 0.01",
        "Formation energies of crystals, in eV per atom.",
        f"{{}} crystals of a snapshot of the Materials Project of 2018 ({MATERIALS})",
        "CC BY 4.0; this attribution stays with the model",
        "absolute loss, learning rate 0.002 down to zero on a cosine, weights that decay by 0.01",
        "ranking of crystals near their minima, of most elements up to plutonium",
        "forces, stress and dynamics; crystals far from minima; elements that it has hardly seen "
        "(`load(...).training_set.elements` has the counts)",
        ("crystals", "Materials Project"),
    ),
}


def command_of(name: str, steps: int | None = None) -> list[str]:
    """Words of the command that trains a model."""
    words = shlex.split(RECIPES[name].settings)
    if steps is not None:
        words[words.index("--trainer.max_steps") + 1] = str(steps)
    return ["fit", *words, "--trainer.directory", f"results/{name}"]


def train(name: str, run: Path, steps: int | None) -> None:
    """Train a model, or go on with it, unless that is done."""
    words = command_of(name, steps)
    words[-1] = str(run)
    done = run / "done.json"
    limit = words[words.index("--trainer.max_steps") + 1]
    if done.is_file() and json.loads(done.read_text())["limits"][0] == limit and (run / "model.safetensors").is_file():
        print(f"{name}: trained already in {run}")
        return
    if (run / "last.ckpt").is_file():
        words += ["--resume", "true"]
    elif run.exists():  # killed before there was anything to go on from
        shutil.rmtree(run)
    print("$ pyg-schnet", shlex.join(words), flush=True)
    command(words)


def errors_of(run: Path) -> list[dict[str, Any]]:
    """Errors on the examples that were neither trained nor validated on, as a card has them."""
    command(["test", "--config", str(run / "config.yaml")])
    report = json.loads((run / "test" / "report.json").read_text())
    found = []
    for target, one in report["targets"].items():
        if target == "energy_per_atom":
            continue
        error = {"target": WRITTEN.get(target, target), "mae": float(f"{one['mae']:.3g}")}
        error |= {"unit": WRITTEN.get(one["unit"], one["unit"]), "structures": report["facts"]["structures"]}
        if target not in {"energy", "forces"}:
            error["median"] = float(f"{one['median']:.2g}")
        published = one.get("published")
        if published and published["model"] == "SchNet":
            number, ours = published.get("num_train"), report["facts"]["num_train"]
            kinds = f" with {number:,} structures" if number and number != ours else ""
            unit = "" if published["unit"] == one["unit"] else f" {WRITTEN.get(published['unit'], published['unit'])}"
            error["paper"] = f"{published['value']:g}{unit}{kinds}"
        found.append(error)
    return found


def neutral(seen: Any) -> Any:
    """What a model was trained on, with the charges that runs of before these were counted do not have.

    All structures of QM9, MD17 and the Materials Project are neutral; molecules of the first two have closed shells.
    """
    if seen is None or seen.charges:
        return seen
    charges = {0: seen.structures}
    return seen._replace(charges=charges, unpaired=charges if max(seen.elements) < 10 else {})


def write(name: str, run: Path, folder: Path, steps: int | None) -> None:
    """Measure the errors of a trained model, and write it with its card."""
    recipe, trained = RECIPES[name], read_header(run)["training"]
    minutes = trained["steps"] / trained["steps_per_second"] / 60
    # all settings that recipes begin with have batches of 32
    training = f"{trained['steps']:,} steps of 32 structures, {recipe.training}; {minutes:.0f} min of one core"
    card = {
        "summary": recipe.summary,
        "data": recipe.data.format(f"{trained['num_train']:,}"),
        "data_licence": recipe.data_licence,
        "training": training,
        "errors": errors_of(run),
        "applicability": recipe.applicability,
        "limits": recipe.limits,
        "licence": "MIT",
        "made_by": shlex.join(["pyg-schnet", *command_of(name, steps)]),
        "tags": list(recipe.tags),
    }
    folder.mkdir(parents=True, exist_ok=True)
    model = load(run)
    model.training_set = neutral(model.training_set)
    save(model, folder / name, card=card, training=trained)
    print(f"{name}: {folder / name}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="models, or what their names begin with; all by default")
    parser.add_argument("--list", action="store_true", help="show names and commands, and end")
    parser.add_argument("--steps", type=int, help="train so many steps instead")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the runs")
    parser.add_argument("--into", type=Path, default=FOLDER, help="folder of the models")
    args = parser.parse_args()
    chosen = [name for name in RECIPES if not args.names or name.startswith(tuple(args.names))]
    for given in args.names:
        if not any(name.startswith(given) for name in RECIPES):
            sys.exit(f"there is no recipe {given!r}; {nearest(given, list(RECIPES))}")
    if args.list:
        for name in chosen:
            print(f"{name}:\n    {shlex.join(['pyg-schnet', *command_of(name, args.steps)])}")
        return
    torch.set_num_threads(1)
    for name in chosen:
        train(name, args.results / name, args.steps)
        write(name, args.results / name, args.into, args.steps)


if __name__ == "__main__":
    main()
