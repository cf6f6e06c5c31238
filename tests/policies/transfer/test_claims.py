import numpy as np
import pytest

from cosmos_isaac_wm.policies.transfer import BothWorlds, Played, table, transfer_figures
from cosmos_isaac_wm.policies.transfer.claims import FEWEST_KNOWN, claims, informed_intervals


def played(successes, count=100):
    return Played([True] * successes + [False] * (count - successes), [0.0] * count, [0.1] * count, [9] * count)


def policies(count, seed, worse=0.8, spread=0.4):
    """Policies whose log odds are worse in reality by that, more or less."""
    rng = np.random.default_rng(seed)
    odds = rng.uniform(-2, 3, count)
    rates = [1 / (1 + np.exp(-np.stack([odds, odds - rng.normal(worse, spread, count)])))][0]
    return {str(n): BothWorlds(*(played(rng.binomial(100, rate)) for rate in rates[:, n])) for n in range(count)}


def test_nine_in_ten_claims_hold_of_policies_that_are_off_like_those_known():
    held = [claim.held for seed in range(60) for claim in claims(policies(7, seed), policies(16, 1000 + seed)).values()]
    assert 0.85 <= np.mean(held) <= 0.97


def test_a_claim_is_narrow_where_reality_did_as_the_dream_did():
    sure, unsure = (
        claims({"new": BothWorlds(played(70), Played())}, policies(16, 0, *off))["new"] for off in ((0, 0), (1, 1))
    )
    assert sure.low < 0.7 < sure.high
    assert sure.high - sure.low < 0.6 * (unsure.high - unsure.low)
    assert sure.held is None  # nobody has played it in reality


def test_no_policy_is_judged_by_itself():
    rows = policies(FEWEST_KNOWN + 1, 0)
    strange = {**rows, "0": BothWorlds(played(99), played(1))}
    assert claims(strange, {})["0"].held is False
    assert claims(strange, {})["0"].low == claims({"0": strange["0"]}, rows)["0"].low


def test_too_few_known_policies_make_no_claim():
    rows = policies(FEWEST_KNOWN, 0)  # each has one less besides itself
    assert claims(rows, {}) == {}
    figures = transfer_figures(rows, {name: name for name in rows})
    assert not any("claim" in key for key in figures)


def test_claims_and_how_many_held_are_told():
    rows = policies(FEWEST_KNOWN + 1, 0)
    figures = transfer_figures(rows, {name: name for name in rows})
    assert figures["claims_judged"] == len(rows)
    text = table(rows, figures)
    assert f"3: the dream claims a real success of {figures['3_claim_low']:.2f} to " in text
    assert f"{figures['claims_held']:.0f} of {len(rows)} claims hold in reality." in text


@pytest.mark.parametrize(("known_by", "narrower"), [(100, 0.75), (20, 0.85)])
def test_others_and_few_real_episodes_make_one_interval_that_holds_and_is_narrower(known_by, narrower):
    held, ratios = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        odds = rng.uniform(-2, 4, 16)
        rates = 1 / (1 + np.exp(-(odds - rng.normal(0.5, 0.4, 16))))
        dreams = [played(rng.binomial(100, 1 / (1 + np.exp(-value)))) for value in odds]
        reals = [played(rng.binomial(known_by, rate), known_by) for rate in rates]
        known = {str(n): BothWorlds(*both) for n, both in enumerate(zip(dreams, reals, strict=True))}
        new = [played(rng.binomial(20, rate), 20) for rate in rates]
        few = {str(n): BothWorlds(*both) for n, both in enumerate(zip(dreams, new, strict=True))}
        for name, found in informed_intervals(few, known).items():
            held.append(found.low <= rates[int(name)] <= found.high)
            ratios.append(found.ratio)
    assert 0.93 <= np.mean(held) <= 0.99
    assert np.mean(ratios) < narrower


def test_policies_that_are_all_alike_tell_no_more_than_their_own_dreams():
    rows = {str(number): BothWorlds(played(100), played(20, 20)) for number in range(12)}
    found = informed_intervals(rows, {})["0"]
    assert found.high == 1.0
    assert 0.9 < found.low < 0.99
    assert informed_intervals(dict(list(rows.items())[:FEWEST_KNOWN]), {}) == {}  # each has one less besides itself
    assert informed_intervals({"new": BothWorlds(played(100), Played())}, rows) == {}
