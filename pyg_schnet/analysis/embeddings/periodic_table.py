"""Groups and periods of the elements, from the numbers of electrons of closed shells."""

from bisect import bisect_left

#: Atomic numbers of the noble gases, at which periods end.
CLOSED_SHELLS = (2, 10, 18, 36, 54, 86, 118)
#: Main groups, those of the s and p elements, by number: the names of figure 4.
MAIN_GROUPS = {1: "IA", 2: "IIA", 13: "IIIA", 14: "IVA", 15: "VA", 16: "VIA", 17: "VIIA", 18: "VIIIA"}


def period_of(number: int) -> int:
    """Period of an element.

    Args:
        number: Atomic number, from 1 to 118.

    Returns:
        The period, from 1 to 7.

    Raises:
        ValueError: If there is no such element.

    Example:
        >>> [period_of(number) for number in (1, 2, 3, 26, 92)]
        [1, 1, 2, 4, 7]
    """
    if not 1 <= number <= CLOSED_SHELLS[-1]:
        raise ValueError(f"atomic numbers are from 1 to {CLOSED_SHELLS[-1]}, got {number}")
    return bisect_left(CLOSED_SHELLS, number) + 1


def group_of(number: int) -> int:
    """Group of an element, counted from 1 to 18 as IUPAC does.

    A period begins with two s elements and ends with six p elements; ten d elements are before these, and in the long
    periods fourteen f elements after the first two, which belong to no group. Helium closes its shell and is a noble
    gas.

    Args:
        number: Atomic number, from 1 to 118.

    Returns:
        The group; 0 for the f elements, here lanthanum to ytterbium and actinium to nobelium.

    Raises:
        ValueError: If there is no such element.

    Example:
        >>> [group_of(number) for number in (1, 2, 6, 26, 57, 71, 118)]
        [1, 18, 14, 8, 0, 3, 18]
    """
    period = period_of(number)
    first = 1 if period == 1 else CLOSED_SHELLS[period - 2] + 1
    behind = CLOSED_SHELLS[period - 1] - number
    if behind == 0:
        return 18
    if number - first < 2:
        return number - first + 1
    return 18 - behind if behind < 16 else 0


def group_name(group: int) -> str:
    """What a group is called in figures.

    Args:
        group: Number of the group, 0 for the f elements.

    Returns:
        The name.

    Example:
        >>> group_name(15), group_name(8), group_name(0)
        ('VA', 'group 8', 'f elements')
    """
    return MAIN_GROUPS.get(group, f"group {group}" if group else "f elements")
