"""Without an extra, one sentence names it."""

import pytest

BLOCK = "import sys; sys.modules[{name!r}] = None; "
ATOM = "import torch; from torch_geometric.data import Data; atom = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3)); "
ISOSURFACE = ATOM + "from pyg_schnet.analysis.surfaces.isosurface import isosurface; "
CUBE = ATOM + "from pyg_schnet.analysis.surfaces.cube import write_cube; "
WATER = (
    "import torch; from torch_geometric.data import Data; from pyg_schnet import SchNet; model = SchNet(8, 8, 1); "
    "water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])); "
)
CRYSTAL = WATER + "water.cell, water.pbc = 9 * torch.eye(3)[None], torch.ones(1, 3, dtype=torch.bool); "
LARGE = "from pathlib import Path; from pyg_schnet.datasets.{0} import {1}; {1}(Path('absent'))"
STUDY = "from pyg_schnet.analysis import {0}; "
PLOT = (
    ISOSURFACE + "from pyg_schnet.analysis.surfaces.potential_surface import PotentialSurface; "
    "mesh = isosurface(atom); surface = PotentialSurface(*mesh, mesh[0][:, 0], 0.0, 'eV', 6, atom.z, atom.pos); "
    "from pyg_schnet.analysis.surfaces.potential_surface_page import potential_surface_plot; "
)


@pytest.mark.parametrize(
    ("name", "code", "extra"),
    [
        ("lightning", "import pyg_schnet.training", "train"),
        ("ase", "import pyg_schnet.simulation.ase", "md"),
        ("rdkit", "from pyg_schnet.datasets import from_smiles; from_smiles('C')", "chem"),
        ("matplotlib", "from pyg_schnet.analysis.figure import new_figure; new_figure()", "plot"),
        ("skimage", ISOSURFACE + "isosurface(atom)", "plot"),
        ("plotly", PLOT + "potential_surface_plot(surface)", "plot"),
        (
            "sklearn",
            WATER
            + STUDY.format("embedding_map, group_separation")
            + "group_separation(embedding_map(model, [3, 11, 9]))",
            "plot",
        ),
        ("ase.optimize", WATER + STUDY.format("relaxed") + "relaxed(model, water)", "md"),
        ("phonopy", CRYSTAL + STUDY.format("phonons") + "phonons(model, water, 1)", "phonons"),
        ("ase", WATER + STUDY.format("normal_modes") + "normal_modes(model, water)", "md"),
        ("ase", WATER + STUDY.format("draw_decomposition") + "draw_decomposition(model, water)", "md"),
        ("matplotlib", WATER + STUDY.format("draw_filters") + "draw_filters(model)", "plot"),
        ("huggingface_hub", "from pyg_schnet import load; load('hf://owner/name')", "hub"),
        ("ipi", "import pyg_schnet.simulation.ipi", "ipi"),
        ("torch_sim", "import pyg_schnet.simulation.torchsim", "torchsim"),
        ("openmm", "import pyg_schnet.simulation.openmm", "openmm"),
        ("openmmml", "import pyg_schnet.simulation.openmm_ml", "openmm"),
        ("lmdb", LARGE.format("lmdb_structures", "count_rows"), "large"),
        ("h5py", LARGE.format("hdf5_structures", "count_conformations"), "large"),
        ("pyarrow", LARGE.format("parquet_structures", "count_table_rows"), "large"),
        ("ase", CUBE + "write_cube('/dev/null', atom, lambda points: points[:, 0])", "md"),
    ],
)
def test_missing_package(name, code, extra, forks):
    blocked = BLOCK.format(name=name) + (BLOCK.format(name="matplotlib.figure") if name == "matplotlib" else "")
    done = forks.run(blocked + code)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: ")
    assert f'pip install "pyg_schnet[{extra}]"' in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["lightning", "jsonargparse"])
def test_command_line_without_its_packages(name, forks):
    code = BLOCK.format(name=name) + "from pyg_schnet.command import main; main(['fit'])"
    done = forks.run(code)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        'pyg-schnet: the command line needs Lightning; install it with pip install "pyg_schnet[train]"'
    )
