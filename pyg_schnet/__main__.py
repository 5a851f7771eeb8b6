"""``python -m pyg_schnet`` is ``pyg-schnet``."""

from pyg_schnet.command import main

if __name__ == "__main__":
    main()
