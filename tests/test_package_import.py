import subprocess
import sys

import gymnasium as gym
import pytest

import cosmos_isaac_wm


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.strip()


@pytest.mark.parametrize("module", ["cosmos_isaac_wm", "cosmos_isaac_wm.envs"])
def test_importing_the_package_imports_no_torch_and_no_simulator(module):
    heavy = run(
        f"import sys, {module}; print([name for name in ('torch', 'mujoco', 'matplotlib') if name in sys.modules])"
    )
    assert heavy == "[]"


def test_importing_the_package_takes_less_than_half_a_second_of_processor_time():
    assert float(run("import cosmos_isaac_wm, time; print(time.process_time())")) < 0.5


def test_importing_the_package_registers_the_environments():
    specs = {name: gym.spec(name) for name in ("CosmosDream-v0", "CosmosReal-v0")}
    assert specs["CosmosDream-v0"].vector_entry_point == "cosmos_isaac_wm.envs.dream_vector_env:DreamVectorEnv"
    # The time limit is the bundle's; a TimeLimit wrapper of 97 would be wrong for the others.
    assert all(spec.max_episode_steps is None for spec in specs.values())


def test_an_environment_can_be_made_without_importing_the_package_first(bundle):
    code = (
        "import gymnasium as gym\n"
        f"env = gym.make('cosmos_isaac_wm:CosmosDream-v0', world_model={str(bundle)!r})\n"
        "print(env.reset(seed=0)[0]['observation'].shape)"
    )
    assert run(code) == "(8,)"


def test_the_version_is_that_of_the_installed_distribution():
    from importlib.metadata import version

    assert cosmos_isaac_wm.__version__ == version("cosmos-isaac-wm")


def test_a_wrong_name_in_the_environments_package_lists_the_right_ones():
    import cosmos_isaac_wm.envs as envs

    assert envs.DreamEnv.__name__ == "DreamEnv"
    with pytest.raises(AttributeError, match="DreamVectorEnv"):
        _ = envs.DreamEnvs
