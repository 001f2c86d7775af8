"""`fashion-ml data`, `encode`, `caption` and `embedded collection`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fashion_ml.cli.options import KEYS, Config, Json, Set, assignments, check_json, option, say, table, write_json
from fashion_ml.cli.setting_options import Offered, settings_command
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.runs.caption import Drafts
    from fashion_ml.runs.split_references import Split

_SHOWN, _MOST_SIDE = 20, 4096

embedded_app = typer.Typer(help="The small world inside the package that needs no download.", **KEYS)


def _of_data() -> list[Offered]:
    """The settings that decide what becomes of images and captions."""
    from fashion_ml.config import LoraExperiment, settings_of

    return [Offered(one, one.section) for one in settings_of(LoraExperiment) if one.section in ("data", "model")]


DataCommand = settings_command(_of_data)
"""The class of `data`, which stands at the top."""


def data(
    context: typer.Context,
    directory: Annotated[
        str, typer.Argument(metavar="[DIR]", help="Folder of N_class folders; that of --config if left out.")
    ] = "",
    references: Annotated[bool, typer.Option("--references", help="DIR is a flat folder of references.")] = False,
    config: Config = "",
    contact_sheet: Annotated[str, option("--contact-sheet", help="PNG; contact_sheet_<name of DIR>.png by default.")] = "",
    set_: Set = None,
    json: Json = "",
) -> None:
    """Say what a folder of images holds and what a training would make of it, and draw it on a contact sheet; nothing is trained.

    Settings are those of a training, and so is the experiment without --config: images of your own are looked at as
    experiments/lora/sd15_fashion.yaml takes them.
    """
    check_json(json)
    from fashion_ml.data.contact_sheet import write_contact_sheet
    from fashion_ml.data.summary_lines import lines_of
    from fashion_ml.errors import InputError
    from fashion_ml.runs.data_summary import facts_of, look_at_data

    if contact_sheet and (Path(contact_sheet).is_dir() or not Path(contact_sheet).absolute().parent.is_dir()):
        raise InputError(
            tr(
                "--contact-sheet: {contact_sheet!r} cannot be written; give a file in an existing folder",
                contact_sheet=contact_sheet,
            )
        )
    looked = look_at_data(directory, {**context.obj, **assignments(set_)}, config, references=references)
    for line, important in lines_of(looked.summaries):
        say(f"{'! ' if important else ''}{line}")
    path = Path(contact_sheet or f"contact_sheet_{looked.folder.absolute().name}.png")
    say(
        tr(
            "Contact sheet: {write_contact_sheet}",
            write_contact_sheet=write_contact_sheet(path, looked.items, str(looked.folder)),
        )
    )
    write_json(json, facts_of(looked.summaries))


def split(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Training folder of N_class folders.")],
    references: Annotated[str, option("--references", help="How many to take.")] = "8",
    out: Annotated[str, option("--out", help="New folder for the result; <DIR>_split by default.")] = "",
    move: Annotated[bool, typer.Option("--move", help="Move the references out of DIR; else DIR stays as it is.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be taken, and do nothing.")] = False,
    seed: Annotated[str, option("--seed", help="Another seed takes others.")] = "0",
    caption_extension: Annotated[str, option("--caption-extension", help="Ending of the caption files.")] = ".txt",
    json: Json = "",
) -> None:
    """Take references for the evaluation out of a training folder: unlike all that stays, spread over its folders and looks.

    The result has a folder to train on and one of references; with --move DIR is the former. Nothing is overwritten.
    """
    check_json(json)
    from fashion_ml.embedded.collection import is_collection
    from fashion_ml.errors import InputError
    from fashion_ml.runs.split_references import carry_out, plan_split, to_dict

    numbers = {"--references": references or "8", "--seed": seed or "0"}
    if wrong := [
        tr("{name}: {value!r} is not accepted; give a whole number", name=name, value=value)
        for name, value in numbers.items()
        if not value.isdecimal()
    ]:
        raise InputError(wrong)
    count, extension = int(numbers["--references"]), caption_extension or ".txt"
    place = Path(out) if out else None
    planned = plan_split(directory, place, count, int(numbers["--seed"]), move=move, extension=extension)
    for item, why, target in planned.chosen:
        along = tr(", and {copies} near-duplicates go with it", copies=why.copies) if why.copies else ""
        say(
            tr(
                "{name}: {name_2}, stands for {stands_for} of its folder{along}: {caption!r}",
                name=target.name,
                name_2=item.name,
                stands_for=why.stands_for,
                along=along,
                caption=item.caption[:60],
            )
        )
    say(
        tr(
            "{count} references, {stay} images stay for training; none that stays looks like a reference",
            count=len(planned.chosen),
            stay=planned.stay,
        )
    )
    if not dry_run:
        carry_out(planned, move=move, extension=extension)
    write_json(json, to_dict(planned))
    _say_next(planned, drawings=is_collection(directory))
    if dry_run:
        say(tr("Nothing was written (--dry-run)"))


def _say_next(planned: "Split", *, drawings: bool) -> None:
    """The command that trains what a split left, with a recipe for such images."""
    train, held = (shlex.quote(str(path)) for path in (planned.train, planned.references))
    recipe = "embedded.yaml" if drawings else "sd15_fashion.yaml --base CHECKPOINT"
    say(
        tr(
            "Next: fashion-ml train lora --config experiments/lora/{recipe} --train-data-dir {train} --references {held}",
            recipe=recipe,
            train=train,
            held=held,
        )
    )
    if not drawings:
        say(tr("(CHECKPOINT: your Stable Diffusion 1.5, a diffusers folder or a .safetensors file)"))


def prior(
    prompt: Annotated[str, option("--prompt", help="The class, such as 'a dress'; also the caption of each image.")],
    count: Annotated[str, option("--count", help="How many; a larger one adds to what is there.")] = "200",
    base: Annotated[str, option("--base", help="The base that draws them: the one you train on.")] = "embedded",
    output: Annotated[str, option("--output", help="Folder; prior_<prompt> by default. What is there is gone on with.")] = "",
    resolution: Annotated[str, option("--resolution", help="Pixels of a side; the base's own by default.")] = "",
    seed: Annotated[str, option("--seed", help="Image k has a seed of its own, by this and k.")] = "",
    steps: Annotated[str, option("--steps", help="Steps of the sampler; 25 by default.")] = "",
    guidance: Annotated[str, option("--guidance-scale", help="7.5 by default; 1 is none.")] = "",
    sampler: Annotated[str, option("--sampler", help="ddim by default.")] = "",
    negative_prompt: Annotated[str, option("--negative-prompt", help="What is not to be seen.")] = "",
    batch_size: Annotated[str, option("--batch-size", help="Images drawn at once; 4 by default.")] = "",
    precision: Annotated[str, option("--precision", help="auto, no, fp16 or bf16.")] = "",
    json: Json = "",
) -> None:
    """Draw images of the class in general from the base itself, for prior preservation (--reg-data-dir).

    What was cut off goes on where it stopped.
    """
    check_json(json)
    from fashion_ml.errors import InputError
    from fashion_ml.runs.prior import make_prior

    whole = {"--count": count or "200", "--resolution": resolution or "0"}
    if wrong := [
        tr("{name}: {value!r} is not accepted; give a whole number", name=name, value=value)
        for name, value in whole.items()
        if not value.isdecimal()
    ]:
        raise InputError(wrong)
    given = {"seed": seed, "num_inference_steps": steps, "guidance_scale": guidance, "sampler": sampler, "precision": precision}
    given |= {"negative_prompt": negative_prompt, "batch_size": batch_size}
    settings = {name: value for name, value in given.items() if value}
    place = Path(output) if output else None
    found = make_prior(
        prompt, int(whole["--count"]), base=base or "embedded", output=place, resolution=int(whole["--resolution"]), **settings
    )
    write_json(json, {"folder": str(found.folder), "count": found.count, "made": found.made})
    say(
        tr(
            "{folder}: {count} images of {prompt!r}, {made} of them drawn now",
            folder=found.folder,
            count=found.count,
            prompt=prompt,
            made=found.made,
        )
    )
    ours = not base or base == "embedded"
    images = (
        tr("--config experiments/lora/embedded.yaml")
        if ours
        else tr("--base {quote} --train-data-dir lora_train_set", quote=shlex.quote(base))
    )
    say(tr("Next: fashion-ml train lora {images} --reg-data-dir {quote}", images=images, quote=shlex.quote(str(found.folder))))
    if not ours:
        say(tr("(your images with their captions in lora_train_set/10_dress, or the name of your own folder instead)"))


@embedded_app.command("collection")
def embedded_collection(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")], json: Json = ""
) -> None:
    """Write the demo's collection: a signature look in kohya folder layout, with held-out references."""
    check_json(json)
    from fashion_ml.embedded.collection import TOKEN, write_collection

    folder = write_collection(directory)
    train, tuning, references = (sorted((folder / part).rglob("*.png")) for part in ("train", "tuning", "references"))
    facts = {
        "folder": str(folder),
        "train": len(train),
        "tuning": len(tuning),
        "references": len(references),
        "token": TOKEN,
    }
    write_json(json, facts)
    say(
        tr(
            "{folder}: {count} training images in {parent}, {count_2} held-out references",
            folder=folder,
            count=len(train),
            parent=train[0].parent,
            count_2=len(references),
        )
    )
    say(tr("{folder}: {count} held-out images more, to choose recipes by", folder=folder / "tuning", count=len(tuning)))
    say(
        tr(
            "Next: fashion-ml train lora --config experiments/lora/embedded.yaml --train-data-dir {quote} "
            "--references {quote_2}",
            quote=shlex.quote(str(folder / "train")),
            quote_2=shlex.quote(str(folder / "references")),
        )
    )


def encode(
    images_dir: Annotated[
        Path, typer.Argument(metavar="IMAGES_DIR", help="Folder that holds a folder of images for each domain.")
    ],
    out_dir: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="New folder for the latents, or one to go on with.")],
    vae: Annotated[str, option("--vae", help="embedded, hub id, diffusers folder or .safetensors file.")] = "embedded",
    size: Annotated[
        str, option("--size", help="Side of the square images, pixels; 512 (64 for the embedded VAE) by default.")
    ] = "",
    flips: Annotated[bool, typer.Option("--flips", help="Encode mirrored images too.")] = False,
    packed: Annotated[bool, typer.Option("--packed/--no-packed", help="Also write the packed form for large sets.")] = True,
    json: Json = "",
) -> None:
    """Encode a folder of images for each domain to VAE latents; stopped and started again, it goes on."""
    check_json(json)
    from fashion_ml.data.encode_latents import encode_folder
    from fashion_ml.errors import InputError
    from fashion_ml.evaluation.instruments import device_of_evaluation
    from fashion_ml.runs.room import check_encoding_room

    vae = vae or "embedded"
    side = size or ("64" if vae == "embedded" else "512")
    if not side.isdecimal() or len(side) > 4 or not 1 <= int(side) <= _MOST_SIDE:
        raise InputError(
            tr(
                "--size: {size!r} is not accepted; give a whole number of pixels, at most {most_side}, such as 512",
                size=size[:80],
                most_side=_MOST_SIDE,
            )
        )
    if vae == "embedded":
        from fashion_ml.runtime.console import warn

        warn(tr("--vae: embedded is a toy that knows drawings of 64 pixels; for photos give that of your checkpoint"))
    device = device_of_evaluation()
    result = encode_folder(
        images_dir, out_dir, vae, size=int(side), flips=flips, packed=packed, device=device, check=check_encoding_room
    )
    facts = {"folder": str(result.folder), "domains": result.domains, "made": result.made, "removed": result.removed}
    write_json(json, facts | {"data": result.summary.to_dict()})
    counts = ", ".join(f"{name} {count}" for name, count in result.domains.items())
    removed = tr(", {removed} removed", removed=result.removed) if result.removed else ""
    say(
        tr(
            "{folder}: {counts}; {made} made now{removed}",
            folder=result.folder,
            counts=counts,
            made=result.made,
            removed=removed,
        )
    )
    experiment = "embedded.yaml" if vae == "embedded" else f"sd15_latent.yaml --latent_scale {result.latent_scale:g}"
    latents = f"--latents-dir {shlex.quote(str(result.folder))} --vae {shlex.quote(vae)}"
    say(
        tr(
            "Next: fashion-ml train stargan --config experiments/stargan/{experiment} {latents}",
            experiment=experiment,
            latents=latents,
        )
    )


def caption(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of images, or of N_class folders as for training.")],
    encoder: Annotated[
        str, option("--encoder", help="FashionCLIP, as for evaluations: patrickjohncyh/fashion-clip, or a folder.")
    ] = "",
    trigger: Annotated[str, option("--trigger", help="Word of the look to learn, added as `, WORD style`.")] = "",
    margin: Annotated[
        str, option("--margin", help="How far a label's probability must be above the next one's, 0 to 1; 0.3 by default.")
    ] = "",
    categories: Annotated[
        str, option("--categories", help="Attributes to say, by comma; what it is, its colour and its pattern by default.")
    ] = "",
    attributes: Annotated[str, option("--attributes", help="YAML of attribute categories, as for evaluations.")] = "",
    caption_extension: Annotated[str, option("--caption_extension", help="Ending of the caption files.")] = ".txt",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing, show what would be written.")] = False,
    json: Json = "",
) -> None:
    """Draft captions for images that have none, such as "a red dotted dress, zarya style", from what the encoder is sure of."""
    check_json(json)
    from fashion_ml.errors import InputError
    from fashion_ml.runs.caption import CATEGORIES, MARGIN, draft_captions

    try:
        least = float(margin) if margin else MARGIN
    except ValueError:
        raise InputError(tr("--margin: {margin!r} is not accepted; give a number from 0 to below 1", margin=margin)) from None
    made = draft_captions(
        directory.expanduser(),
        encoder=encoder,
        trigger=trigger,
        margin=least,
        attributes=attributes or "default",
        categories=[name.strip() for name in categories.split(",") if name.strip()] or CATEGORIES,
        caption_extension=caption_extension or ".txt",
        dry_run=dry_run,
    )
    images = [{"image": one.name, "caption": one.caption or None, "attributes": one.attributes} for one in made.drafts]
    facts = {"folder": str(directory), "encoder": encoder or "embedded", "margin": least, "dry_run": dry_run}
    write_json(json, {**facts, "had_one": made.there, "left_alone": made.left, "images": images})
    _report_drafts(made, least, dry_run)


def _report_drafts(made: "Drafts", margin: float, dry_run: bool) -> None:
    """What was written, how sure each word is, and what was left alone."""
    from statistics import median

    def sure(attributes: dict[str, tuple[str, float]]) -> str:
        return ", ".join(
            f"{name} {ahead:.2f}" if ahead >= margin else f"({label} {ahead:.2f})"
            for name, (label, ahead) in attributes.items()
        )

    rows = [[one.name, one.caption or tr("nothing is sure"), sure(one.attributes)] for one in made.drafts[:_SHOWN]]
    if rows:
        table([tr("image"), tr("caption"), tr("margin (left out)")], rows, left=3)
    if len(made.drafts) > _SHOWN:
        say(tr("… and {count} more; --json FILE has all", count=len(made.drafts) - _SHOWN))
    for category in made.drafts[0].attributes if made.drafts else ():
        ahead = [one.attributes[category][1] for one in made.drafts]
        said = sum(value >= margin for value in ahead)
        say(
            tr(
                "{category}: sure of {said} of {count}, median margin {median:.2f}; left out below {margin:g}",
                category=category,
                said=said,
                count=len(ahead),
                median=median(ahead),
                margin=margin,
            )
        )
    for line in made.left:
        say(tr("Left alone  {line}", line=line))
    verb = tr("would be written") if dry_run else "written"
    unsure = len(made.drafts) - len(made.written)
    say(
        tr("{count} captions {verb}; {there} images had one", count=len(made.written), verb=verb, there=made.there)
        + (tr("; {unsure} of which nothing is sure", unsure=unsure) if unsure else "")
    )
    if made.written and not dry_run:
        say(tr("They are drafts: read them, and add what the look is about"))
