"""What does the page of a bundle on the Hugging Face hub show? The model card, what the hub sorts by, and a picture."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..evaluation.open_loop import dream, first_dreamed
from ..evaluation.perception_metrics import decode_frames
from ..perception import BundleError
from ..rollout import DreamEngine
from ..storage.atomic import replacing, write
from ..world_model import WorldModel, model_card

PICTURE = "dream.png"
_MOMENTS, _WIDTH, _MARGIN, _CAPTION = 6, 160, 6, 22
TASK = "reinforcement-learning"


def write_hub_card(folder: Path, model: WorldModel, name: str, licence: str, beside: tuple[str, ...] = ()) -> None:
    """Write `README.md` and `dream.png` into the folder that is going to be pushed.

    Args:
        folder: Where to.
        model: The bundle.
        name: "hf://owner/repository", which the card shows how to load.
        licence: Of the weights, by the hub's name for it.
        beside: Further pictures of the folder that the card shows.
    """
    caption = draw_picture(folder / PICTURE, model)
    title, _, rest = model_card(model, name).partition("\n")
    shown = f"![{caption}]({PICTURE})\n\n*{caption}*\n"
    more = "".join(f"\n![{Path(each).stem}]({each})\n" for each in beside)
    package = "A latent world model to step as a Gymnasium environment, with `pip install cosmos-isaac-wm`."
    write(
        folder / "README.md",
        f"---\n{front_matter(model, name, licence)}\n---\n\n{title}\n\n{package}\n\n{shown}{rest}{more}",
    )


def front_matter(model: WorldModel, name: str, licence: str) -> str:
    """What the hub sorts by, as YAML: licence, library, tags, the kind of task, and the figures."""
    from huggingface_hub import EvalResult, ModelCardData

    environment = None if model.scene.environment is None else model.scene.environment.id
    tags = [TASK, "world-model", "gymnasium", "simulator", "robotics", type(model.dynamics).__name__.lower()]
    of = environment or model.scene.name
    figures = [
        EvalResult(
            task_type=TASK,
            task_name="held-out episodes, dreamed open loop",
            dataset_type=of,
            dataset_name=of,
            metric_type=key,
            metric_value=float(f"{value:.4g}"),
        )
        for key, value in model.metrics.items()
        if np.isfinite(value)
    ]
    data = ModelCardData(
        license=licence,
        library_name="cosmos-isaac-wm",
        pipeline_tag=TASK,
        tags=[*tags, *([environment] if environment else [])],
        model_name=name.rpartition("/")[2],
        eval_results=figures or None,
    )
    return str(data.to_yaml())


def draw_picture(path: str | os.PathLike[str], model: WorldModel) -> str:
    """Draw moments of one dream: of the first held-out episode below its truth, else from a start context.

    Returns:
        What is to be seen.
    """
    try:
        episodes = model.held_out()
    except BundleError:
        steps = _moments(model.scene.episode_steps)
        rows = {"dream": _alone(model, steps)}
        caption = "A dream from the first stored start, under actions in the middle of their bounds."
    else:
        episode, first = episodes[0], first_dreamed(model)
        length = min(model.scene.episode_steps, len(episode.frames) - first)
        steps = _moments(length)
        latents = dream(model, [episode], length)[0][torch.from_numpy(steps - 1)]
        rows = {"real": episode.frames[first + steps - 1], "dream": decode_frames(model, latents)}
        caption = "The first held-out episode: what was recorded, and below what is dreamed under the same actions."
    with replacing(path) as temporary:
        _sheet(rows, [f"step {step}" for step in steps]).save(temporary)
    return caption


def _moments(length: int) -> NDArray[np.int64]:
    """Steps that lie evenly between the first and the last."""
    return np.round(np.linspace(1, length, _MOMENTS)).astype(np.int64)


def _alone(model: WorldModel, steps: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Moments of a dream from the first stored start, under actions in the middle of their bounds."""
    scene = model.scene
    middle = torch.tensor(scene.action_low).add(torch.tensor(scene.action_high)).div(2).to(model.device)
    actions = middle.expand(1, scene.episode_steps, -1).clone()
    engine = DreamEngine(model, 1)
    latents = engine.open_loop(model.contexts.latents[:1].float().to(model.device), actions)[0]
    return decode_frames(model, latents[torch.from_numpy(steps - 1).to(latents.device)])


def _sheet(rows: dict[str, NDArray[np.uint8]], captions: list[str]) -> Image.Image:
    """Rows of pictures (n, H, W, 3) with their names on the left edge and captions above."""
    height, width = next(iter(rows.values())).shape[1:3]
    size = (_WIDTH, max(1, round(_WIDTH * height / width)))
    canvas = Image.new(
        "RGB", (len(captions) * (size[0] + _MARGIN), _CAPTION + len(rows) * (size[1] + _MARGIN)), "white"
    )
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=13)
    for column, caption in enumerate(captions):
        pen.text((column * (size[0] + _MARGIN) + 2, 3), caption, fill="#16181d", font=font)
        for row, (name, pictures) in enumerate(rows.items()):
            corner = column * (size[0] + _MARGIN), _CAPTION + row * (size[1] + _MARGIN)
            canvas.paste(Image.fromarray(pictures[column]).resize(size, Image.Resampling.BICUBIC), corner)
            if column == 0:
                pen.text(
                    (corner[0] + 4, corner[1] + 3), name, fill="white", font=font, stroke_width=2, stroke_fill="black"
                )
    return canvas
