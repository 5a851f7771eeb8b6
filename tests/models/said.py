"""What calls warn of."""

import warnings
from collections.abc import Callable


def said(call: Callable[[], object]) -> list[str]:
    """Texts of the user warnings of a call, those that were given before, too."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in seen if issubclass(one.category, UserWarning)]
