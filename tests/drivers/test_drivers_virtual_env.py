"""The lock-step environment: Gymnasium's own check, determinism, physics that make sense."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from drivers.virtual.env import VirtualKochEnv
from drivers.virtual.live.world import World
from drivers.virtual.render import Renderer
from drivers.virtual.scene import JOINTS, follower_model, leader_model
from spec.errors import DeviceError
from spec.robotfile import load_robot

ROBOT = load_robot(Path(__file__).parents[2] / "robots" / "virtual.yaml")
HOME = ROBOT.limits().home


@pytest.fixture
def env() -> Iterator[VirtualKochEnv]:
    environment = VirtualKochEnv(ROBOT, cameras=())
    yield environment
    environment.close()


def test_gymnasium_accepts_it() -> None:
    environment = gymnasium.make(
        "cadenza/VirtualKoch-v0",
        robot=ROBOT,
        image_size=(48, 64),
        render_mode="rgb_array",
        disable_env_checker=True,  # the thorough check below instead
    )
    with warnings.catch_warnings():
        # Advice only: joint targets are in radians, not in [-1, 1], and positions have no useful bounds.
        warnings.filterwarnings("ignore", message=".*(symmetric and normalized|infinity).*")
        check_env(environment.unwrapped)
    environment.close()


def test_same_seed_same_everything(env: VirtualKochEnv) -> None:
    rng = np.random.default_rng(0)
    actions = HOME + rng.normal(0, 0.2, (20, 6))
    runs = []
    for _ in range(2):
        observation, info = env.reset(seed=5)
        trace = [observation["position"], info["cube"]]
        for action in actions:
            observation, *_, info = env.step(action)
            trace += [observation["position"], observation["velocity"], info["cube"]]
        runs.append(trace)
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(env.reset(seed=6)[1]["cube"], runs[0][1])


def test_the_cube_lies_within_its_spawn_region_and_outside_the_goal(env: VirtualKochEnv) -> None:
    for seed in range(50):
        _, info = env.reset(seed=seed)
        x, y, z, _ = info["cube"]
        x_from, x_to, y_from, y_to = env.task.spawn
        assert x_from - 1e-3 <= x <= x_to + 1e-3
        assert y_from - 1e-3 <= y <= y_to + 1e-3
        assert z == pytest.approx(0.02, abs=1e-3)
        assert info["distance"] > env.task.goal[2]


def test_the_cube_stays_put_until_touched(env: VirtualKochEnv) -> None:
    _, before = env.reset(seed=1)
    for _ in range(50):
        *_, info = env.step(HOME)
    np.testing.assert_allclose(info["cube"], before["cube"], atol=1e-3)


def test_success_needs_the_cube_to_stay_in_the_goal(env: VirtualKochEnv) -> None:
    goal = env.task.goal
    env.reset(seed=1, options={"cube": (goal[0], goal[1], 0.3)})
    env.task.place(goal[0], goal[1], 0.0)
    assert not env.task.success()
    _, reward, terminated, _, info = env.step(HOME)
    assert (reward, terminated, info["success"]) == (0.0, False, False)
    for _ in range(2):
        _, reward, terminated, _, info = env.step(HOME)
    assert (reward, terminated, info["success"]) == (1.0, True, True)
    env.task.place(goal[0] - 2 * goal[2], goal[1], 0.0)
    *_, info = env.step(HOME)
    assert not info["success"]


def test_the_arm_follows_within_what_its_servos_can_do(env: VirtualKochEnv) -> None:
    """P control without integral part sags under gravity, most at the elbow, as the real arm does."""
    env.reset(seed=1)
    goal = HOME + np.array([0.5, -0.2, -0.2, 0.1, 0.5, -0.3])
    for _ in range(15):
        observation, *_ = env.step(goal)
    error = np.abs(observation["position"] - goal)
    assert error.max() < 0.12
    assert error[0] < 0.01
    assert np.abs(observation["velocity"]).max() < 0.05


def test_an_episode_ends_in_time() -> None:
    environment = VirtualKochEnv(ROBOT, cameras=(), time_limit_s=0.5)
    environment.reset(seed=0)
    ends = [environment.step(HOME)[3] for _ in range(5)]
    assert ends == [False, False, False, False, True]


def test_lock_step_and_the_live_arm_share_their_physics(env: VirtualKochEnv) -> None:
    """Same goals, same time step, same joint angles."""
    world = World(ROBOT, seed=0)
    assert world.dt == pytest.approx(env._model.opt.timestep)
    env.reset(seed=0, options={"start": HOME})
    for joint in range(6):
        world.follower.drives.set_torque(joint, True)
    world.follower.drives.teleport(env._drives.position())
    world.follower.drives.set_goals(env._drives.goal)
    goal = HOME + 0.2
    for tick in range(100):
        target = HOME + (goal - HOME) * min(1.0, (tick + 1) / 50)
        target = np.clip(target, ROBOT.limits().lower, ROBOT.limits().upper)
        env.tick(target)
        world.follower.drives.set_goals(env._quantised(target))
        for _ in range(env._substeps):
            world.step()
    np.testing.assert_allclose(world.follower.drives.position(), env._drives.position(), atol=5e-3)


def test_the_mjcf_has_the_joints_of_the_robot_file_and_room_for_their_limits() -> None:
    model = mujoco.MjModel.from_xml_path(str(ROBOT.model))
    assert tuple(model.joint(k).name for k in range(model.njnt)) == JOINTS
    assert model.site("tool").id >= 0
    for arm, mjcf in ((ROBOT.follower, follower_model(ROBOT)), (ROBOT.leader, leader_model(ROBOT))):
        assert arm is not None
        for name, joint in arm.joints.items():
            low, high = mjcf.joint(name).range
            assert low < joint.position[0] < joint.position[1] < high, name


def test_home_keeps_the_arm_out_of_the_top_camera_s_view_of_the_cube(env: VirtualKochEnv) -> None:
    """The cube's red must be seen from above wherever it spawns."""
    for seed in range(8):
        env.reset(seed=seed)
        blue, green, red = (env.picture("top", (120, 160))[:, :, k].astype(int) for k in range(3))
        assert ((red > 150) & (green < 90) & (blue < 90)).sum() > 60


def test_a_camera_the_scene_lacks_is_refused() -> None:
    robot = ROBOT.model_copy(update={"cameras": {"wrist": ROBOT.cameras["top"]}})
    with pytest.raises(DeviceError, match="valid: top, front"):
        VirtualKochEnv(robot)


def test_rendering_does_not_depend_on_who_imported_mujoco_first() -> None:
    model = follower_model(ROBOT)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with Renderer(model, 48, 64) as small, Renderer(model, 96, 128) as large:
        assert small.picture(data, "top").shape == (48, 64, 3)
        assert large.picture(data, "front").shape == (96, 128, 3)
        np.testing.assert_array_equal(small.picture(data, "top"), small.picture(data, "top"))
