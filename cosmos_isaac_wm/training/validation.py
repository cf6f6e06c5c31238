"""How good is a dynamics while it is trained? Validation episodes dreamed open loop, each to its own end."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..data.windows import EncodedEpisodes
from ..perception import Perception
from ..perception.tracking import REFERENCE_WIDTH


@torch.inference_mode()
def validate(dynamics: nn.Module, perception: Perception, episodes: EncodedEpisodes) -> dict[str, float]:
    """Open-loop error over whole validation episodes, short or long; positions by the readout, pixels at 512 scale.

    Returns:
        `error`, by which the best weights are chosen: the mean over kinds of the mean position error in px (or the
        mean L1 of the latents, where there are no positions or no camera). Per kind also the RMSE and the median.
    """
    dynamics.eval()
    length = int(dynamics.context_length)  # type: ignore[arg-type]
    device = perception.device
    context, actions = (
        episodes.latents[:, :length].to(device).float(),
        perception.scale_actions(episodes.actions.to(device)),
    )
    scene = perception.scene
    with_positions = perception.readout is not None and scene.camera is not None and episodes.positions.shape[2] > 0
    recorded = (episodes.lengths - length).unsqueeze(1) > torch.arange(int(episodes.lengths.max()) - length)  # (E, T)
    horizon = recorded.shape[1]
    dreamed, off = [], []  # they stay on the device: a GPU is waited for once, at the end
    for step in range(horizon):
        latent = dynamics(context, actions[:, length - 1 + step]).latent.float()
        context = torch.cat([context[:, 1:], latent.unsqueeze(1)], dim=1)
        if with_positions:
            dreamed.append(perception.locate(latent).positions[:, 0])
        else:
            target = episodes.latents[:, length + step].to(device, non_blocking=True)
            off.append((latent - target.float()).abs().mean(dim=(1, 2, 3)))
    dynamics.train()
    if not with_positions:
        return {"error": float(torch.stack(off, dim=1).cpu()[recorded].mean())}
    truth = scene.to_pixels(episodes.positions[:, length : length + horizon, 0].numpy())
    error = np.linalg.norm(scene.to_pixels(torch.stack(dreamed, dim=1).cpu().numpy()) - truth, axis=-1)
    error = np.where(recorded.numpy(), error * REFERENCE_WIDTH / scene.image_size[1], np.nan)
    results: dict[str, float] = {}
    means = []
    for kind in sorted(set(episodes.kinds)):
        rows = error[[name == kind for name in episodes.kinds]]
        means.append(float(np.nanmean(rows)))
        results[f"{kind}_rmse"] = float(np.sqrt(np.nanmean(rows**2)))
        results[f"{kind}_median"] = float(np.nanmedian(rows))
        results[f"{kind}_rmse_at_16"] = float(np.sqrt(np.nanmean(rows[:, :16] ** 2)))
        results[f"{kind}_rmse_at_32"] = float(np.sqrt(np.nanmean(rows[:, :32] ** 2)))
    return {"error": float(np.mean(means)), **results}
