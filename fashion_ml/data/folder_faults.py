"""What is said of a folder of images, or of an image, that cannot be used: each names the setting and the fix."""

from __future__ import annotations

from pathlib import Path

from fashion_ml.data.class_folders import CLASS_FOLDER
from fashion_ml.data.pictures import IMAGE_ENDINGS
from fashion_ml.embedded.collection import other_names
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr


def check_folder(folder: Path, field: str) -> None:
    """InputError for a folder that is not there, cannot be read or is empty."""
    try:
        if not folder.exists():
            if names := other_names(folder):
                raise InputError(
                    tr(
                        "{field}: {folder!r} is not known; the embedded pictures are {names}",
                        field=field,
                        folder=str(folder),
                        names=names,
                    )
                )
            raise InputError(
                tr("{field}: {folder!r} does not exist; give the path of a folder", field=field, folder=str(folder))
            )
        if not folder.is_dir():
            raise InputError(tr("{field}: {folder!r} is a file; give the path of a folder", field=field, folder=str(folder)))
        if not any(folder.iterdir()):
            raise InputError(tr("{field}: {folder!r} is empty; put images into it", field=field, folder=str(folder)))
    except OSError as error:  # no permission, or a name that is too long
        raise InputError(
            tr(
                "{field}: {folder!r} cannot be read ({strerror}); give the path of a folder",
                field=field,
                folder=str(folder),
                strerror=error.strerror,
            )
        ) from None


def without_images(folder: Path, field: str, instead: str, *, classes: bool) -> InputError:
    """Of a folder without images that can be read; `instead` is what it has, `classes` whether they belong into `N_class` folders."""
    said = tr(" that can be read ({names})", names=instead) if instead else ""
    endings = ", ".join(sorted(ending[1:] for ending in IMAGE_ENDINGS))
    return InputError(
        tr(
            "{field}: {folder!r} holds no images{why_none}; put {endings} files into its N_class folders",
            field=field,
            folder=str(folder),
            why_none=said,
            endings=endings,
        )
        if classes
        else tr(
            "{field}: {folder!r} holds no images{why_none}; put {endings} files with captions into it",
            field=field,
            folder=str(folder),
            why_none=said,
            endings=endings,
        )
    )


def without_class_folders(folder: Path, field: str, *, images: bool) -> InputError:
    """Of a folder without `N_class` folders; `images` is whether images lie directly in it, as in one that is itself such a folder."""
    fix = tr("put the images into one, for example {folder!r}", folder=str(folder / "10_dress"))
    if CLASS_FOLDER.fullmatch(folder.absolute().name) and images:
        fix = tr("it is one itself, so give the folder that it lies in, {parent!r}", parent=str(folder.absolute().parent))
    return InputError(
        tr(
            "{field}: {folder!r} holds no folder named N_class (repeats, underscore, class); {fix}",
            field=field,
            folder=str(folder),
            fix=fix,
        )
    )


def unreadable_image(path: Path, field: str, reason: str) -> str:
    """The line of an image that cannot be read."""
    return tr(
        "{field}: image {path!r} cannot be read ({reason}); replace or remove it", field=field, path=str(path), reason=reason
    )


def too_small_image(path: Path, field: str, size: str, least: int) -> str:
    """The line of an image with a side of less than `least` pixels."""
    return tr(
        "{field}: {path!r} has {size}, which is too small; sides of {least} are the least",
        field=field,
        path=str(path),
        size=size,
        least=least,
    )
