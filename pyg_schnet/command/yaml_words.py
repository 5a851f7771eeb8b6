"""Words as files of settings have them."""

import re

#: Words that YAML takes for something else.
_MEANT_OTHERWISE = {"true", "false", "null", "yes", "no", "on", "off"}


def quoted(value: object) -> str:
    """A word as YAML reads it, in quotes where it needs them.

    Args:
        value: The word, or what has one as its text.

    Returns:
        It.

    Example:
        >>> quoted("dft_energy"), quoted("no"), quoted("it's")
        ('dft_energy', "'no'", "'it''s'")
    """
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z/][A-Za-z0-9_./-]*", text) and text.lower() not in _MEANT_OTHERWISE
    return text if plain else "'" + text.replace("'", "''") + "'"
