"""Upload of exported folders to the Hugging Face Hub, one repository per folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from polytask.errors import OutputError


def repositories(folders: Mapping[str, Path], repository: str) -> dict[str, str]:
    """Return the repository of each folder: the given one, or with the task's name appended for several folders.

    Raises OutputError for a name that the hub rejects.
    """
    if len(folders) == 1:
        return dict.fromkeys(folders, repository)
    for name in folders:
        if not name.isascii():
            raise OutputError(
                f"push: {repository}-{name}: the hub takes names of English letters and digits only; the exports are "
                f"complete, upload each one separately: `hf upload OWNER/NAME {folders[name]}`"
            )
    return {name: f"{repository}-{name}" for name in folders}


def push(folders: Mapping[str, Path], repository: str, *, private: bool) -> list[str]:
    """Upload folders, and return the URLs.

    Args:
        folders: folders by name.
        repository: OWNER/NAME.
        private: whether new repositories are private.

    Raises OutputError if the hub cannot be reached or rejects the upload; the folders are kept.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    api = HfApi(library_name="polytask")
    places: list[str] = []
    for name, target in repositories(folders, repository).items():
        try:
            api.create_repo(target, private=private or None, exist_ok=True)
            api.upload_folder(repo_id=target, folder_path=folders[name], commit_message="Export from polytask")
        except (OSError, ValueError, HTTPError) as error:
            reason = (str(error).strip() or type(error).__name__).split("\n")[0]
            done = f"; uploaded before: {', '.join(places)}" if places else ""
            raise OutputError(
                f"push: {target}: cannot be uploaded ({reason}); the export is in {folders[name]}: log in by "
                f"`hf auth login` or set HF_TOKEN, then upload it by `hf upload {target} {folders[name]}`{done}"
            ) from None
        places.append(f"https://huggingface.co/{target}")
    return places
