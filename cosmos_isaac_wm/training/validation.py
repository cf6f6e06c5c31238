"""How good is a dynamics while it is trained? Validation episodes dreamed open loop, each to its own end.

Beside the error stands what needs no dynamics: a picture that stands still, and straight motion. Beside both stands
what the actions are worth: the same dreams under the opposite ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..borders import ours
from ..data.windows import EncodedEpisodes
from ..dynamics.network import history_of, inputs_along, observed_of
from ..perception import Perception
from ..perception.tracking import REFERENCE_WIDTH

Floats = NDArray[np.floating]
_RESPONSE_STEPS = 16  # dreamed under opposite actions: later, chaos would have as large a part
_TWIN_STEPS = 50  # of a foreign environment's episodes: they may be long, and what swings freely is chaos by then
_GOOD = 0.5  # share of a still picture's error up to which a dream is good


def unit_of(perception: Perception, episodes: EncodedEpisodes) -> str:
    """What validation errors are in: "px" at 512, "mm" in a scene without a camera, "latent" without positions.

    Of a foreign environment that observes more than its picture they are in standard deviations of that, "std".
    """
    if perception.heads is not None and episodes.observed.shape[2]:
        return "std"
    if perception.readout is None or not episodes.positions.shape[2]:
        return "latent"
    return "mm" if perception.scene.camera is None else "px"


@dataclass
class _Dreamed:
    """E episodes dreamed for T steps.

    Attributes:
        positions: Of the N markers in metres by the readout, (E, T, N, 2); N is 0 where none are known.
        off: Mean L1 of the latents, or of what the heads read in them, (E, T); only where there are no positions.
        size: Mean absolute latent, (E, T).
    """

    positions: Floats
    off: Floats
    size: Floats


@ours
def validate(dynamics: nn.Module, perception: Perception, episodes: EncodedEpisodes) -> dict[str, float]:
    """Open-loop error over whole validation episodes, short or long, in the unit of `unit_of`; 50 steps of a twin's.

    Returns:
        `error`, by which the best weights are chosen: the mean over kinds of the mean position error of the first
        marker (or the mean L1 of the latents, where there are no positions). The same of a picture that stands `still`
        and, with positions, of `constant_velocity`. `response` to the actions, where the model takes some: 1 less the
        ratio of the error under the recorded actions to that under the opposite ones, so 0 for a model that ignores
        them. `growth`: the latents' mean size at the dreams' ends as a multiple of the real ones'. `good_steps`, over
        which the error is half a still picture's or less, of `steps`. With positions, per kind also RMSE and median.

    Raises:
        ValueError: If the dreams are not finite.
    """
    dynamics.eval()
    length = int(dynamics.context_length)  # type: ignore[arg-type]
    steps = int(episodes.lengths.max()) - length
    if unit_of(perception, episodes) == "std":
        steps = min(steps, _TWIN_STEPS)
    recorded = ((episodes.lengths - length).unsqueeze(1) > torch.arange(steps)).cpu().numpy()  # (E, T)
    actions = scaled_actions(perception, episodes)
    dreamed = _dream(dynamics, perception, episodes, actions, steps)
    few = min(_RESPONSE_STEPS, steps)
    opposed = None
    if dynamics.action_dim:
        opposed = _dream(dynamics, perception, episodes, -actions, few)
    dynamics.train()
    if not np.isfinite(dreamed.size[recorded]).all():
        raise ValueError("the dreams are not finite any more")
    kinds = [np.array([own == kind for own in episodes.kinds]) for kind in sorted(set(episodes.kinds))]
    rows = _errors(perception, episodes, dreamed, length, steps)
    rows = {name: np.where(recorded, error, np.nan) for name, error in rows.items()}
    found = {name: float(np.mean([np.nanmean(error[kind]) for kind in kinds])) for name, error in rows.items()}
    found |= _horizon(rows, kinds)
    last = recorded.sum(axis=1) - 1
    real = episodes.latents[:, :length].float().abs().mean()
    found["growth"] = float(dreamed.size[np.arange(len(last)), last].mean() / real)
    if opposed is not None:
        found["response"] = _response(perception, episodes, dreamed, opposed, recorded, length)
    return found | (_by_kind(rows["error"], episodes, kinds) if dreamed.positions.shape[2] else {})


def scaled_actions(perception: Perception, episodes: EncodedEpisodes) -> Tensor:
    """Actions (E, L - 1, A) in [-1, 1]; 0 while nothing has happened yet."""
    scaled = perception.scale_actions(episodes.actions.to(perception.device))
    scaled[:, : episodes.rest] = 0.0
    return scaled


def dreamed(
    dynamics: nn.Module, perception: Perception, context: Tensor, past: Tensor, actions: Tensor
) -> Iterator[Tensor]:
    """The T latents of B dreams, float32 (B, C, h, w), one after the other.

    Args:
        dynamics: The network.
        perception: Its heads say what is observed before every step, where the network is told.
        context: The dream begins there, (B, K, C, h, w).
        past: Scaled actions that led there, H or more, (B, n, A).
        actions: Scaled actions of the steps, (B, T, A).
    """
    told, heads = None, perception.heads
    if observed_of(dynamics) and heads is not None:
        told = heads.told(context, past, actions)
    led = torch.cat([past[:, past.shape[1] - history_of(dynamics) :], actions], dim=1)
    for shown in inputs_along(dynamics, led, told).unbind(dim=1):
        latent = dynamics(context, shown).latent.float()
        context = torch.cat([context[:, 1:], latent.unsqueeze(1)], dim=1)
        yield latent


def _dream(
    dynamics: nn.Module, perception: Perception, episodes: EncodedEpisodes, actions: Tensor, steps: int
) -> _Dreamed:
    """The episodes dreamed from their first frames under scaled actions (E, L - 1, A)."""
    length, device = int(dynamics.context_length), perception.device  # type: ignore[arg-type]
    context = episodes.latents[:, :length].to(device).float()
    sees, heads = unit_of(perception, episodes) in ("px", "mm"), perception.heads
    past, ahead = actions[:, : length - 1], actions[:, length - 1 : length - 1 + steps]
    memory = None
    if heads is not None and unit_of(perception, episodes) == "std":
        memory = heads.remember(context, past)
    positions, off, size = [], [], []  # they stay on the device: a GPU is waited for once, at the end
    for step, latent in enumerate(dreamed(dynamics, perception, context, past, ahead)):
        size.append(latent.abs().mean(dim=(1, 2, 3)))
        if sees:
            positions.append(perception.locate(latent).positions)
        elif memory is not None and heads is not None:
            memory = heads.follow(memory, latent, actions[:, length - 1 + step])
            truth = heads.normalised(episodes.observed[:, length + step].to(device))
            off.append((heads.read(memory) - truth).abs().mean(dim=1))
        else:
            target = episodes.latents[:, length + step].to(device, non_blocking=True)
            off.append((latent - target.float()).abs().mean(dim=(1, 2, 3)))
    nowhere = context.new_zeros(len(context), steps, 0, 2)
    return _Dreamed(
        (torch.stack(positions, dim=1) if sees else nowhere).cpu().numpy(),
        torch.stack(off, dim=1).cpu().numpy() if off else np.empty((len(context), 0)),
        torch.stack(size, dim=1).cpu().numpy(),
    )


def _errors(
    perception: Perception, episodes: EncodedEpisodes, dreamed: _Dreamed, length: int, steps: int
) -> dict[str, Floats]:
    """Errors of the dream and of what stands beside it, (E, T) each; all start from what the readout sees."""
    context = episodes.latents[:, :length].to(perception.device).float()
    if unit_of(perception, episodes) == "std" and perception.heads is not None:
        heads = perception.heads
        read = heads.read(heads.remember(context, scaled_actions(perception, episodes)[:, : length - 1]))
        seen = heads.normalised(episodes.observed.to(context.device))
        still = (seen[:, length : length + steps] - read.unsqueeze(1)).abs().mean(dim=2)
        return {"error": dreamed.off, "still": still.cpu().numpy()}
    if not dreamed.positions.shape[2]:
        rows = [
            (episodes.latents[:, length + step].to(context) - context[:, -1]).abs().mean(dim=(1, 2, 3))
            for step in range(steps)
        ]
        return {"error": dreamed.off, "still": torch.stack(rows, dim=1).cpu().numpy()}
    scene = perception.scene

    def places(positions: Floats) -> Floats:
        """Positions (..., 2) in metres in the unit of the errors."""
        if scene.camera is None:
            return 1000.0 * positions
        return scene.to_pixels(positions) * (REFERENCE_WIDTH / scene.image_size[1])

    before, now = (
        perception.locate(context[:, max(0, length - which)]).positions[:, 0].cpu().numpy() for which in (2, 1)
    )
    ahead = np.arange(1, steps + 1)[:, None]
    straight = now[:, None] + (now - before)[:, None] * ahead
    straight = straight.clip(np.array(scene.workspace_low), np.array(scene.workspace_high))
    truth = places(episodes.positions[:, length : length + steps, 0].cpu().numpy())
    guesses = {
        "error": dreamed.positions[:, :, 0],
        "still": np.broadcast_to(now[:, None], straight.shape),
        "constant_velocity": straight,
    }
    return {name: np.linalg.norm(places(guess) - truth, axis=-1) for name, guess in guesses.items()}


def _horizon(rows: dict[str, Floats], kinds: list[NDArray[np.bool_]]) -> dict[str, float]:
    """The steps over which the mean error is at most half a still picture's, and how many there are."""

    def so_far(error: Floats) -> Floats:
        """Mean error over the first 1, 2, ... steps, mean over kinds."""
        of_kinds = []
        for kind in kinds:
            known = np.isfinite(error[kind])
            of_kinds.append(np.nansum(error[kind], axis=0).cumsum() / known.sum(axis=0).cumsum().clip(1))
        return np.asarray(np.mean(of_kinds, axis=0))

    good = np.flatnonzero(so_far(rows["error"]) <= _GOOD * so_far(rows["still"]))
    return {"good_steps": float(good[-1] + 1) if len(good) else 0.0, "steps": float(rows["error"].shape[1])}


def _response(
    perception: Perception,
    episodes: EncodedEpisodes,
    dreamed: _Dreamed,
    opposed: _Dreamed,
    recorded: NDArray[np.bool_],
    length: int,
) -> float:
    """1 less the ratio of the errors under recorded and under opposite actions; of the agent, where there is one."""
    few = opposed.size.shape[1]
    if not dreamed.positions.shape[2]:
        right, wrong = (np.where(recorded[:, :few], each.off[:, :few], np.nan) for each in (dreamed, opposed))
    else:
        agent = perception.scene.agent_index
        who = slice(None) if agent is None else slice(agent, agent + 1)
        truth = episodes.positions[:, length : length + few, who].cpu().numpy()
        truth = np.where(recorded[:, :few, None, None], truth, np.nan)
        right, wrong = (np.linalg.norm(each.positions[:, :few, who] - truth, axis=-1) for each in (dreamed, opposed))
    if not np.isfinite(wrong).any() or not np.nanmean(wrong):
        return 0.0
    return float(1 - np.nanmean(right) / np.nanmean(wrong))


def _by_kind(error: Floats, episodes: EncodedEpisodes, kinds: list[NDArray[np.bool_]]) -> dict[str, float]:
    """RMSE and median of every kind."""
    found: dict[str, float] = {}
    for kind, rows in zip(sorted(set(episodes.kinds)), (error[kind] for kind in kinds), strict=True):
        found[f"{kind}_rmse"] = float(np.sqrt(np.nanmean(rows**2)))
        found[f"{kind}_median"] = float(np.nanmedian(rows))
        found[f"{kind}_rmse_at_16"] = float(np.sqrt(np.nanmean(rows[:, :16] ** 2)))
        found[f"{kind}_rmse_at_32"] = float(np.sqrt(np.nanmean(rows[:, :32] ** 2)))
    return found
