"""The training loop: stops early, restores the best weights, repeats itself exactly, leaves torch as it was."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hauberk.errors import InputError
from hauberk.models import TabularMLP
from hauberk.recipe import LabelledFeatures
from hauberk.train import TrainingOptions, balanced_weights, cross_entropy, train

QUICK = TrainingOptions(epochs=6, batch_size=32, learning_rate=0.01, patience=3)


def records(count: int, seed: int, noise: float = 0.5) -> LabelledFeatures:
    """Attacks have larger features, with noise."""
    random = np.random.default_rng(seed)
    targets = (np.arange(count) % 3 == 0).astype(np.int64)
    features = targets[:, None] * 0.5 + noise * random.standard_normal((count, 4))
    return LabelledFeatures(features.astype(np.float32), targets)


def network(seed: int = 0) -> TabularMLP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TabularMLP(4, (8,), 2)


def weights(module: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


def validation_loss(module: nn.Module, training: LabelledFeatures, validation: LabelledFeatures) -> float:
    """The loss that stops training, computed on its own."""
    pair = torch.tensor(balanced_weights(training.targets), dtype=torch.float32)
    with torch.no_grad():
        logits = module(torch.tensor(validation.features))
    return float(cross_entropy(logits, torch.tensor(validation.targets), pair))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.sampled_from([0.001, 0.03, 0.3]))
def test_the_module_ends_with_the_weights_of_its_best_epoch(seed, patience, learning_rate):
    training, validation = records(60, seed), records(40, seed + 1)
    options = TrainingOptions(epochs=12, batch_size=16, learning_rate=learning_rate, patience=patience, seed=seed)
    module = network(seed)
    result = train(module, training, validation, options)
    losses = [epoch.validation_loss for epoch in result.history]
    assert validation_loss(module, training, validation) == pytest.approx(min(losses), rel=1e-5)
    assert result.best_epoch == losses.index(min(losses)) + 1
    assert result.epochs == len(losses) == min(12, result.best_epoch + patience)


def test_it_learns_what_can_be_learned():
    training, validation = records(900, 0, noise=0.1), records(300, 1, noise=0.1)
    result = train(network(), training, validation, TrainingOptions(epochs=40, batch_size=64, learning_rate=0.01))
    assert result.best.validation_accuracy > 0.99


def test_the_same_seed_gives_the_same_weights_bit_for_bit():
    runs = []
    for _ in range(2):
        module = network()
        train(module, records(100, 0), records(50, 1), QUICK)
        runs.append(weights(module))
    assert runs[0] == runs[1]


def test_another_seed_gives_another_order_of_batches():
    runs = []
    for seed in (0, 1):
        module = network()
        train(module, records(100, 0), records(50, 1), TrainingOptions(epochs=2, batch_size=32, seed=seed))
        runs.append(weights(module))
    assert runs[0] != runs[1]


def test_the_learning_rate_falls_along_half_a_cosine():
    """AdamW's first steps are as long as the rate: a lone weight with a constant gradient shows it."""
    seen = []

    class Lone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            seen.append(float(self.weight.detach()))
            return self.weight.expand(len(features), 1)

    def down(module: nn.Module, features: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return -module(features).mean()

    options = TrainingOptions(
        epochs=4, batch_size=100, learning_rate=1e-2, weight_decay=0.0, patience=4, schedule="cosine"
    )
    train(Lone(), records(500, 0), records(100, 1), options, objective=down, judge=down)
    lengths = np.diff(sorted(set(seen)))
    expected = 1e-2 * (1 + np.cos(np.pi * np.arange(20) / 20)) / 2
    np.testing.assert_allclose(lengths, expected[: len(lengths)], rtol=1e-3, atol=1e-7)
    assert len(lengths) >= 19


def test_dropout_is_seeded_too():
    runs = []
    for _ in range(2):
        module = nn.Sequential(network(), nn.Dropout(0.5))
        train(module, records(100, 0), records(50, 1), QUICK)
        runs.append(weights(module))
    assert runs[0] == runs[1]


def test_the_objective_gets_each_record_with_its_own_index():
    training = records(70, 0)
    seen: list[int] = []

    def objective(module, features, targets, indices):
        np.testing.assert_array_equal(features.numpy(), training.features[indices.numpy()])
        np.testing.assert_array_equal(targets.numpy(), training.targets[indices.numpy()])
        seen.extend(indices.tolist())
        return module(features).square().mean()

    train(network(), training, records(30, 1), TrainingOptions(epochs=1, batch_size=16), objective=objective)
    assert sorted(seen) == list(range(70))


def test_class_weights_turn_a_lazy_answer_into_an_alert():
    """Features say nothing, attacks are rare: the best constant margin is the log-odds, which weighting moves to 0."""
    targets = (np.arange(400) % 20 == 0).astype(np.int64)
    blank = LabelledFeatures(np.ones((400, 1), np.float32), targets)
    margins = {}
    for weighted in (True, False):
        module = nn.Linear(1, 1)
        options = TrainingOptions(
            epochs=400, batch_size=400, learning_rate=0.05, weight_decay=0.0, patience=400, class_weights=weighted
        )
        train(module, blank, blank, options)
        margins[weighted] = float(module(torch.ones(1, 1)).detach())
    assert margins[True] == pytest.approx(0.0, abs=0.02)
    assert margins[False] == pytest.approx(np.log(20 / 380), abs=0.05)


def test_torch_is_left_as_it_was():
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    inside = []

    def objective(module, features, targets, indices):
        inside.append(torch.get_num_threads())
        return module(features).square().mean()

    train(
        network(), records(40, 0), records(20, 1), TrainingOptions(epochs=1, threads=threads + 1), objective=objective
    )
    assert inside == [threads + 1]
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_interrupted_training_leaves_torch_as_it_was():
    threads = torch.get_num_threads()

    def interrupt(module, features, targets, indices):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(network(), records(40, 0), records(20, 1), TrainingOptions(threads=threads + 1), objective=interrupt)
    assert torch.get_num_threads() == threads


def test_a_loss_that_is_no_number_says_so():
    with pytest.raises(InputError, match=r"training diverged in epoch 1: loss nan.*learning rate below 0.001"):
        train(
            network(),
            records(40, 0),
            records(20, 1),
            TrainingOptions(),
            objective=lambda m, f, t, i: m(f).sum() * np.nan,
        )


def test_extreme_features_are_reported_not_learned():
    training = records(40, 0)
    training.features[3, 2] = np.inf
    with pytest.raises(InputError, match="training diverged in epoch 1"):
        train(network(), training, records(20, 1), QUICK)


def test_an_empty_split_is_refused():
    with pytest.raises(InputError, match="at least one training and one validation record"):
        train(network(), records(40, 0), records(0, 1), QUICK)


def test_bfloat16_trains_float32_weights():
    module = network()
    options = TrainingOptions(epochs=20, batch_size=32, learning_rate=0.01, precision="bfloat16")
    result = train(module, records(300, 0, noise=0.1), records(100, 1, noise=0.1), options)
    assert result.best.validation_accuracy > 0.95
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


class Follower:
    """Keeps what a progress bar would show."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, int | None]] = []
        self.figures: list[dict[str, float]] = []

    @contextmanager
    def task(self, description, total=None):
        self.tasks.append((description, total))
        yield self

    def advance(self, steps=1, **figures):
        assert steps == 1
        self.figures.append(figures)


def test_progress_shows_the_figures_of_every_epoch():
    follower = Follower()
    result = train(network(), records(40, 0), records(20, 1), QUICK, progress=follower)
    assert follower.tasks == [("training", 6)]
    assert [figures["validation_loss"] for figures in follower.figures] == [e.validation_loss for e in result.history]
    assert set(follower.figures[0]) == {"loss", "validation_loss", "validation_accuracy"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_cuda_trains_and_hands_the_module_back_on_the_cpu(precision):
    module = network()
    options = TrainingOptions(epochs=20, batch_size=32, learning_rate=0.01, device="cuda", precision=precision)
    result = train(module, records(300, 0, noise=0.1), records(100, 1, noise=0.1), options)
    assert result.best.validation_accuracy > 0.95
    assert {parameter.device.type for parameter in module.parameters()} == {"cpu"}


def test_images_of_several_classes_are_learned_by_their_largest_logit():
    random = np.random.default_rng(0)
    targets = np.arange(120) % 3
    images = 0.3 * random.standard_normal((120, 1, 4, 4))
    images[np.arange(120), 0, targets, targets] += 3
    split = LabelledFeatures(images.astype(np.float32), targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    options = TrainingOptions(epochs=20, batch_size=16, learning_rate=0.01, task="classification")
    assert train(module, split, split, options).best.validation_accuracy == 1


def test_a_batch_in_parts_trains_like_the_whole():
    """Class weights included: a part weighs what its records weigh, so that rounding is all the difference."""
    found = []
    for parts in (1, 4):
        module = network()
        options = TrainingOptions(epochs=3, batch_size=32, learning_rate=0.01, accumulate=parts)
        result = train(module, records(100, 0), records(50, 1), options)
        found.append((torch.cat([value.flatten() for value in module.state_dict().values()]), result.best.loss))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-3, atol=1e-5)
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-4)


def test_a_batch_can_be_gone_over_again():
    seen: list[int] = []

    def objective(module, features, targets, indices):
        seen.append(indices[0].item())
        return module(features).square().mean()

    train(
        network(),
        records(40, 0),
        records(20, 1),
        TrainingOptions(epochs=1, batch_size=20),
        objective=objective,
        replays=3,
    )
    assert len(seen) == 6
    assert seen[0] == seen[1] == seen[2] != seen[3]
