"""What do the episodes of several policies say? Success rates, and how much of the dream came true."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from ..agent import Agent
from ..evaluations import EvaluationRow, first_good, read_evaluations
from .both_worlds import BothWorlds
from .claims import Claim, claims, informed_intervals
from .correlation import foretold
from .prediction_powered import real_interval
from .sources import PLANNERS, Source, identity


def transfer_figures(
    rows: Mapping[str, BothWorlds], sources: Mapping[str, Source], known: Mapping[str, BothWorlds] | None = None
) -> dict[str, float]:
    """Success rates of every policy, and the headline figures.

    Args:
        rows: The episodes of each policy, by name. Where fewer are real than dreamed, the rate's interval is of both
            together, and of the others where enough are known; where none is real, figures are of the dream only.
        sources: What each policy is made of, by the same names.
        known: By which policies claims are made, as of `claims`.
    """
    figures: dict[str, float] = {}
    known_by = {name: identity(sources[name]) for name in rows}  # of agents a hash of all weights
    by_identity = {known_by[name]: row for name, row in rows.items()}
    informed = informed_intervals(by_identity, known or {})
    for name, row in rows.items():
        figures[f"{name}_dream_success"] = row.dream.rate
        if row.clear.success:
            figures[f"{name}_clear_success"] = row.clear.rate
        if np.isfinite(row.dream.successful_bound):
            figures[f"{name}_dream_bound"] = row.dream.successful_bound
        if row.real.success:
            figures[f"{name}_real_success"] = row.real.rate
        if 0 < len(row.real.success) < len(row.dream.success):
            found = informed.get(known_by[name]) or real_interval(row.real.success, row.foretelling.success)
            figures |= {f"{name}_real_interval_{end}": getattr(found, end) for end in ("low", "high", "ratio")}
    ratios = [value for name, value in figures.items() if name.endswith("_real_interval_ratio")]
    if ratios:
        figures["real_interval_ratio"] = float(np.mean(ratios))
    figures |= _of_claims(claims(by_identity, known or {}), known_by)
    if not all(row.real.success for row in rows.values()):
        return figures
    figures |= _of_agents(rows, sources)
    planned = [row.real.rate for name, row in rows.items() if sources[name] in PLANNERS]
    if planned:
        figures["planner_real_success"] = max(planned)
    if "scripted" in rows:
        figures["scripted_real_success"] = rows["scripted"].real.rate
    return figures | _of_correlation(rows)


def _of_claims(found: Mapping[str, Claim], known_by: Mapping[str, str]) -> dict[str, float]:
    """What the dream claims of each policy, and how many of those claims that reality has judged were right."""
    figures: dict[str, float] = {}
    for name, own in known_by.items():
        if own in found:
            figures |= {f"{name}_claim_low": found[own].low, f"{name}_claim_high": found[own].high}
    judged = [claim.held for claim in found.values() if claim.held is not None]
    return figures | ({"claims_judged": float(len(judged)), "claims_held": float(sum(judged))} if judged else {})


def _of_agents(rows: Mapping[str, BothWorlds], sources: Mapping[str, Source]) -> dict[str, float]:
    """How the agents trained in the dream do in reality, beside those trained there.

    Agents that differ in nothing but their seed count as one, the mean over its seeds. Of several such the one that is
    best in the dream gives the figures. The time ratio is known where runs in the dream were also evaluated in reality
    (`train-agent --eval_real 32`), and became good there, every one.
    """
    dreamers, rivals = _alike(sources)
    if not dreamers:
        return {}
    best = max(dreamers, key=lambda kind: _mean_rate(rows, dreamers[kind], "dream"))
    group = dreamers[best]
    real = _mean_rate(rows, group, "real")
    figures = {"real_success": real, "real_success_seeds": float(len(group))}
    figures["exploitation_gap"] = _mean_rate(rows, group, "dream") - real
    trained_in_real = rivals.get(best[0])
    if trained_in_real:
        figures["over_real_trained"] = real / max(_mean_rate(rows, trained_in_real, "real"), 1e-9)
        ratio = _seconds_to_good(group, sources) / _seconds_to_good(trained_in_real, sources)
        figures |= {"time_ratio": ratio} if np.isfinite(ratio) else {}
    return figures


def _alike(sources: Mapping[str, Source]) -> tuple[dict[tuple[str, str], list[str]], dict[str, list[str]]]:
    """Names of the agents that differ in their seed only: by kind and training in the dream; by kind in reality."""
    dreamers, rivals = defaultdict[tuple[str, str], list[str]](list), defaultdict[str, list[str]](list)
    for name, source in sources.items():
        if not isinstance(source, Agent) or source.trained.get("chosen") != "best":
            continue
        budget = source.trained.get("budget")
        kind = json.dumps([source.algorithm, source.policy_kwargs, source.env_kwargs, source.frame_stack, budget])
        if source.trained.get("env") == "CosmosReal-v0":
            rivals[kind].append(name)
        else:
            dreamt = [source.trained.get(part) for part in ("world_model", "n_envs", "hyperparameters")]
            dreamers[kind, json.dumps(dreamt)].append(name)
    return dreamers, rivals


def _mean_rate(rows: Mapping[str, BothWorlds], group: Sequence[str], world: Literal["dream", "real"]) -> float:
    return float(np.mean([getattr(rows[name], world).rate for name in group]))


def _seconds_to_good(group: Sequence[str], sources: Mapping[str, Source]) -> float:
    """Mean seconds of training until each of these agents was first good in reality; NaN if one is not known to be."""
    watched = [rows for name in group if (rows := _watched(sources[name]))]
    firsts = [first_good(rows) for rows in watched]
    return float(np.mean([np.nan if first is None else first.seconds for first in firsts])) if firsts else np.nan


def _watched(source: Source) -> list[EvaluationRow]:
    """The evaluations in the real simulator of the run that an agent's folder is part of; none where it had none."""
    if not isinstance(source, Agent) or source.path is None:
        return []
    run_folder = source.path.resolve().parent
    in_real = source.trained.get("env") == "CosmosReal-v0"
    table = run_folder / ("evaluations.csv" if in_real else "evaluations_real.csv")
    return read_evaluations(table) if (run_folder / "training.json").is_file() else []


def _of_correlation(rows: Mapping[str, BothWorlds]) -> dict[str, float]:
    """How well the dream foretells reality, over policies, by success and by return; nothing where all are alike."""
    dream, real = [row.dream for row in rows.values()], [row.real for row in rows.values()]
    by_success = foretold([row.foretelling.rate for row in rows.values()], [played.rate for played in real])
    by_return = foretold(*([float(np.mean(played.episode_return)) for played in world] for world in (dream, real)))
    return by_success | {name if name == "policies" else f"return_{name}": value for name, value in by_return.items()}
