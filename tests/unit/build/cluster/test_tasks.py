"""Which layers become tasks of a cluster."""

from __future__ import annotations

import pickle
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from images.build import prepare, titles
from images.build.cluster import tasks
from images.build.cluster.tasks import Made, Task, fitting
from images.build.prepare import Prepared
from images.build.recipe import LayerContext, Recipe
from images.inputs.lock.distribution import Distribution
from images.inputs.matrix.load import load
from images.repository import ROOT
from tests.unit.small_matrix import wheel

GIB = 1 << 30
MATRIX = load(ROOT / "matrix.yaml")


def prepared(name: str) -> Prepared:
    inputs = prepare.inputs_of(MATRIX, MATRIX.target(name))
    return Prepared(inputs, inputs.debian_base())


def test_layer_that_targets_share_is_one_task() -> None:
    both = [prepared("torch280-sglang052"), prepared("torch280-sglang052-roll")]
    keys = [task.key for task in tasks.tasks(both, ())]
    assert len(keys) == len(set(keys))
    alone = {task.key for task in tasks.tasks(both[:1], ())}
    assert alone < set(keys)


def test_what_exists_is_no_task() -> None:
    one = [prepared("torch280-sglang052")]
    every = tasks.tasks(one, ())
    assert tasks.tasks(one, {every[0].key}) == every[1:]


def test_most_work_is_begun_first_and_kernels_get_more_processors() -> None:
    found = tasks.tasks([prepared("torch280-sglang052")], ())
    assert [task.work for task in found] == sorted((task.work for task in found), reverse=True)
    assert {task.cpus for task in found if task.title.startswith("torch")} == {1}
    kernels = next(task for task in found if "kernels" in task.title)
    assert kernels.cpus > 1 or found.index(kernels) < 3


def test_layer_of_no_file_is_left_to_the_driver() -> None:
    one = prepared("torch280-sglang052")
    titled = {task.title for task in tasks.tasks([one], ())}
    assert {recipe.title for recipe in one.recipes if not recipe.needs}
    assert not titled & {recipe.title for recipe in one.recipes if not recipe.needs}


def test_layer_of_a_custom_wheel_is_left_to_the_driver() -> None:
    item = wheel("own", 9_000_000)
    plain = Recipe(titles.parse("own 1.0"), "k", (item,), (), _no_entries, 1)
    own: Distribution = replace(item, custom="matrix.yaml:7")

    class One:
        """A target of one layer."""

        def __init__(self, recipe: Recipe) -> None:
            self.recipes = [recipe]
            self.target = MATRIX.targets[0]
            self.inputs: Any = self._Inputs(recipe)

        class _Inputs:
            def __init__(self, recipe: Recipe) -> None:
                self._recipe = recipe

            def recipes(self) -> list[Recipe]:
                return [self._recipe]

    one: Any = One(plain)
    assert [task.key for task in tasks.tasks([one], ())] == ["k"]
    another: Any = One(replace(plain, distributions=(own,)))
    assert tasks.tasks([another], ()) == []


def _no_entries(context: LayerContext, opened: ExitStack) -> Any:
    raise AssertionError((context, opened))


def test_task_asks_for_no_more_than_a_node_has() -> None:
    task = Task("t", "k", "title", 1, 4, 4 * GIB)
    assert fitting(task, [(2, 8 * GIB), (8, 8 * GIB)]) == task
    assert fitting(task, [(2, 3 * GIB)]) == replace(task, cpus=2, memory=3 * GIB)


def test_values_travel() -> None:
    made = Made("node", 3, 1.5)
    assert pickle.loads(pickle.dumps(made)) == made


def test_copy_of_the_matrix_is_not_needed_to_name_a_narrowed_target() -> None:
    assert MATRIX.target("torch280-sglang052-sm90").narrows == "torch280-sglang052"
    assert Path(MATRIX.path).name == "matrix.yaml"
