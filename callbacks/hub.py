"""An export on a hub: its folder as a repository, private unless asked for otherwise."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError
from huggingface_hub.utils import HfHubHTTPError, validate_repo_id

from common.errors import UserError, first_line

_NEVER_PUSHED = ("private/*", "*.parquet", "*.ckpt")
"""What no export holds, and what would not leave with it: texts and ids of records."""

_REFUSED, _TAKEN = (401, 403), 409


def require_free_repository(name: str) -> None:
    """Refuses, before anything is trained, a repository that could not be made at the end.

    Raises:
        UserError: No token, no network, or a name that is taken or is none.
    """
    try:
        validate_repo_id(name)
        api = HfApi()
        api.whoami()
        taken = api.repo_exists(name)
    except Exception as error:
        raise _mistake(name, error) from error
    if taken:
        raise UserError(_taken(name))


def push_export(folder: Path, name: str, private: bool) -> str:
    """Makes a repository and uploads a folder to it.

    Args:
        folder: The export: weights, tokenizer, card and audit.json.
        name: ``OWNER/NAME``, or a name of one's own.
        private: Whether only its owner sees it.

    Returns:
        Address of the repository.

    Raises:
        UserError: It could not be made, or not all was uploaded; the folder is still there.
    """
    try:
        made = HfApi().create_repo(name, private=private)
        HfApi().upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            commit_message="Upload weights with their audit",
            ignore_patterns=list(_NEVER_PUSHED),
        )
    except Exception as error:
        mistake = _mistake(name, error)
        raise UserError(f"{mistake}; the export is in {folder}") from error
    return str(made)


def _mistake(name: str, error: Exception) -> UserError:
    """Returns what another library's error means for a user.

    Raises:
        Exception: The error, where it tells of none.
    """
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, HFValidationError):
        return UserError(f"--export.push_to_hub {name}: {first_line(error)}")
    if isinstance(error, LocalTokenNotFoundError) or status in _REFUSED:
        return UserError(
            f"--export.push_to_hub {name}: no token of yours may write there: run `hf auth login`, "
            "or set HF_TOKEN to a token with write access"
        )
    if status == _TAKEN:
        return UserError(_taken(name))
    if isinstance(error, OSError | RuntimeError) or type(error).__module__.startswith("httpx"):
        return UserError(
            f"--export.push_to_hub {name}: the hub cannot be reached: {first_line(error)}"
        )
    raise error


def _taken(name: str) -> str:
    return f"--export.push_to_hub {name}: there is a repository of that name: give another one"
