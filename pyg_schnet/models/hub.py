"""Models from the Hugging Face hub (extra ``hub``), as :func:`pyg_schnet.save` writes them into a folder."""

import re
from pathlib import Path

from pyg_schnet.models.model_folder import FACTS, FILE, README

#: How addresses of the hub begin.
SCHEME = "hf://"
_ADDRESS = re.compile(rf"{SCHEME}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?/?")
#: What is fetched of a repository, committees included.
_FILES = [FILE, FACTS, README, f"member_*/{FILE}"]


def fetched(address: str) -> Path:
    """The folder of a model of the hub, in the cache of ``huggingface_hub``.

    What its environment variables say holds: ``HF_HOME`` for the cache, ``HF_HUB_OFFLINE=1`` for the cache alone,
    ``HF_TOKEN`` for models that are not public. Nothing that comes from there is executed.

    Args:
        address: ``"hf://owner/name"``, or ``"hf://owner/name@revision"`` for a branch, a tag or a commit.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: If there is no such model or revision, or there is no model in it that we read.
        ImportError: If huggingface_hub is missing.
        OSError: If the hub cannot be reached and the cache does not have it.
        ValueError: If the address is none.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ValueError(f"expected hf://owner/name or hf://owner/name@revision, got {address}")
    try:
        from huggingface_hub import errors, snapshot_download  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            'models of the Hugging Face hub need huggingface_hub; install it with pip install "pyg_schnet[hub]"'
        ) from error
    name, revision = found.groups()
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_FILES))
    except errors.GatedRepoError:
        raise OSError(f"{address} asks for your consent; give it at the hub, then log in (hf auth login)") from None
    except errors.RepositoryNotFoundError:
        raise FileNotFoundError(
            f"the hub has no model {name}; check the name, or log in if it is not public (hf auth login)"
        ) from None
    except errors.RevisionNotFoundError:
        raise FileNotFoundError(f"{name} has no revision {revision}; leave it out for the newest") from None
    except errors.HFValidationError as error:
        raise ValueError(f"{address} is no address of the hub ({_first_line(error)})") from None
    except Exception as error:  # of the client for HTTP, which is another one in each version
        raise OSError(
            f"{address} could not be fetched, and the cache does not have it ({_first_line(error)}); "
            "fetch its folder by hand and pass the path"
        ) from error
    if not (folder / FILE).is_file() and not any(folder.glob(f"member_*/{FILE}")):
        raise FileNotFoundError(f"{address} has no {FILE}; expected a model that pyg_schnet.save wrote into a folder")
    return folder


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
