"""Small molecules of C, N, O and F, enumerated as graphs with the usual valences."""

from rdkit import Chem, RDLogger

VALENCES = {"C": 4, "N": 3, "O": 2, "F": 1}
BONDS = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
#: Bonds that GDB leaves out as well, by the elements they join.
REFUSED = [{"O"}, {"F"}, {"N", "F"}, {"O", "F"}]
#: Substructures that are hardly stable: bent triple bonds and allenes, antiaromatic and double-bonded small rings,
#: ketenes of nitrogen and oxygen, chains of three heteroatoms, fused rings of three, and atoms with many heteroatoms.
UNSTABLE = [
    "[*]#;@[*]",
    "[*]=;@[*]=;@[*]",
    "[r3]=;@[r3]",
    "[r3]=[*]",
    "[a;r3]",
    "[N,O,F]~[N,O]~[N,O,F]",
    "[R2]~[R2]~[R2]",
    "C1=CC=C1",
    "C(=C)=[N,O]",
    "[CX4]([N,O,F])([N,O])[N,O]",
]
#: Zwitterions, which have no barrier to their neutral forms without a solvent: they end in the list of molecules
#: that are not what they were meant to be.
ZWITTERIONS = ["[NH3+]C([O-])=O", "[NH3+]CC([O-])=O", "[NH3+]CC[O-]", "[NH3+]C[O-]", "C[NH2+]C[O-]", "[NH3+]C(F)[O-]"]


def enumerate_smiles(atoms: int) -> list[list[str]]:
    """Canonical SMILES of all molecules with 1, 2, ... ``atoms`` heavy atoms, sorted."""
    RDLogger.DisableLog("rdApp.*")
    unstable = [Chem.MolFromSmarts(pattern) for pattern in UNSTABLE]
    graphs: dict[str, Chem.RWMol] = {}
    for element in VALENCES:
        graph = Chem.RWMol()
        graph.AddAtom(Chem.Atom(element))
        graphs[_key(graph)] = graph
    levels = []
    for _ in range(atoms):
        found = {Chem.MolToSmiles(_sanitized(graph)) for graph in _with_rings(graphs).values()}
        molecules = {smiles: Chem.MolFromSmiles(smiles) for smiles in found}
        levels.append(
            sorted(s for s, m in molecules.items() if not any(m.HasSubstructMatch(pattern) for pattern in unstable))
        )
        graphs = _with_one_more(_with_rings(graphs))
    return levels


def _with_one_more(graphs: dict[str, Chem.RWMol]) -> dict[str, Chem.RWMol]:
    """Every graph with one more atom on any atom that has a valence left."""
    grown: dict[str, Chem.RWMol] = {}
    for graph in graphs.values():
        for atom in graph.GetAtoms():
            for element, valence in VALENCES.items():
                if {atom.GetSymbol(), element} in REFUSED:
                    continue
                for order in range(1, min(_free(atom), valence, 3) + 1):
                    new = Chem.RWMol(graph)
                    new.AddBond(atom.GetIdx(), new.AddAtom(Chem.Atom(element)), BONDS[order])
                    grown.setdefault(_key(new), new)
    return grown


def _with_rings(graphs: dict[str, Chem.RWMol]) -> dict[str, Chem.RWMol]:
    """The graphs and all that come from them by further bonds."""
    closed, todo = dict(graphs), list(graphs.values())
    while todo:
        graph = todo.pop()
        free = [_free(atom) for atom in graph.GetAtoms()]
        for i in range(len(free)):
            for j in range(i):
                elements = {graph.GetAtomWithIdx(i).GetSymbol(), graph.GetAtomWithIdx(j).GetSymbol()}
                if graph.GetBondBetweenAtoms(i, j) is not None or elements in REFUSED:
                    continue
                for order in range(1, min(free[i], free[j], 2) + 1):
                    new = Chem.RWMol(graph)
                    new.AddBond(i, j, BONDS[order])
                    if _key(new) not in closed:
                        closed[_key(new)] = new
                        todo.append(new)
    return closed


def _free(atom: Chem.Atom) -> int:
    return VALENCES[atom.GetSymbol()] - int(sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds()))


def _key(graph: Chem.RWMol) -> str:
    molecule = Chem.Mol(graph)
    molecule.UpdatePropertyCache(strict=False)
    return Chem.MolToSmiles(molecule)


def _sanitized(graph: Chem.RWMol) -> Chem.Mol:
    molecule = Chem.Mol(graph)
    Chem.SanitizeMol(molecule)
    return molecule


def chosen(total: int) -> list[str]:
    """``total`` molecules: all with up to four heavy atoms, evenly spaced ones with five, and the zwitterions."""
    *small, large = enumerate_smiles(5)
    smiles = [one for level in small for one in level]
    missing = max(0, total - len(smiles) - len(ZWITTERIONS))
    smiles += [large[(len(large) * k) // missing] for k in range(missing)]
    return smiles + ZWITTERIONS
