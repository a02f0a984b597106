"""The fused operations against NumPy's own formulas in double precision, and that they end where they should."""

import subprocess
import sys
import warnings
import zipfile
from contextlib import nullcontext

import numpy as np
import pytest

from pcam_utils.data.sources import open_data
from pcam_utils.models.networks import build_model, keras
from pcam_utils.runtime import fused
from pcam_utils.runtime.fused import FusedAdam, fused_batch_norm
from pcam_utils.training.recipes import Settings
from pcam_utils.training.run import train

tf = pytest.importorskip("tensorflow")
RATE = 2.0**-10  # this and the decay are the same in every precision


@pytest.fixture(autouse=True)
def fresh_warnings():
    fused._warn_once.cache_clear()
    yield
    fused._warn_once.cache_clear()


def operations(function, *arguments):
    """Kinds of the operations in a function's graph, and in the graphs within it."""
    graph = tf.function(function, autograph=False).get_concrete_function(*arguments).graph.as_graph_def()
    inner = [node for part in graph.library.function for node in part.node_def]
    return [node.op for node in (*graph.node, *inner)]


def training_operations(layer, x):
    return operations(lambda: layer(tf.convert_to_tensor(x), training=True))


# Adam ---------------------------------------------------------------------------------------------------------------


def adam_in_numpy(weights, gradients, *, beta_1=0.9, beta_2=0.999, epsilon=1e-7, clipnorm=None, weight_decay=0.0):
    """Kingma and Ba's Algorithm 1, with its epsilon hat, after clipping and decoupled decay; and both averages."""
    m, v = np.zeros_like(weights), np.zeros_like(weights)
    for step, gradient in enumerate(gradients, 1):
        if clipnorm:
            gradient = gradient * min(1, clipnorm / np.linalg.norm(gradient))
        weights = weights * (1 - RATE * weight_decay)
        m = beta_1 * m + (1 - beta_1) * gradient
        v = beta_2 * v + (1 - beta_2) * gradient**2
        rate = RATE * np.sqrt(1 - beta_2**step) / (1 - beta_1**step)
        weights = weights - rate * m / (np.sqrt(v) + epsilon)
    return weights, m, v


def stepped(optimizer, weights, gradients, graph=True):
    """Weights and the optimizer's two averages after as many steps as there are gradients."""
    variable = keras.Variable(weights, dtype=weights.dtype.name)
    optimizer.build([variable])
    apply = lambda gradient: optimizer.apply([gradient], [variable])
    if graph:
        apply = tf.function(apply, autograph=False)
    for gradient in gradients:
        apply(tf.constant(gradient))
    return [keras.ops.convert_to_numpy(array) for array in (variable, *optimizer.variables[-2:])]


def problem(dtype, steps=4):
    """Weights and gradients of very different sizes, as deep networks have them."""
    rng = np.random.default_rng(0)
    sizes = 10.0 ** rng.integers(-6, 2, (40, 5))
    return rng.normal(size=(40, 5)).astype(dtype), [
        (rng.normal(size=(40, 5)) * sizes).astype(dtype) for _ in range(steps)
    ]


OPTIONS = [{}, {"clipnorm": 0.5}, {"weight_decay": 2.0**-7}, {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}]


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
def test_adam_is_the_formula_in_double_precision(options, graph, steps):
    weights, gradients = problem("float64", steps)
    found = stepped(FusedAdam(RATE, **options), weights, gradients, graph)
    for mine, expected in zip(found, adam_in_numpy(weights, gradients, **options)):
        np.testing.assert_allclose(mine, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("options", OPTIONS)
def test_adam_is_the_formula_in_single_precision(options):
    weights, gradients = problem("float32")
    found, m, v = stepped(FusedAdam(RATE, **options), weights, gradients)
    weights, gradients = weights.astype(float), [gradient.astype(float) for gradient in gradients]
    expected, expected_m, expected_v = adam_in_numpy(weights, gradients, **options)
    # In float32, 1 - 0.999 is off by 1.3e-5, in Keras's own Adam as well; the rest is rounding.
    np.testing.assert_allclose(found, expected, rtol=5e-7, atol=5e-5 * RATE)
    np.testing.assert_allclose(v, expected_v, rtol=2e-5)
    sizes = adam_in_numpy(weights, [np.abs(gradient) for gradient in gradients], **options)[1]
    assert (np.abs(m - expected_m) <= 1e-6 * sizes).all()


def test_gradients_may_be_added_up_over_several_steps():
    weights, gradients = problem("float64")
    mine, kerass = (
        stepped(kind(RATE, gradient_accumulation_steps=2), weights, gradients)[0]
        for kind in (FusedAdam, keras.optimizers.Adam)  # versions of Keras count the steps differently
    )
    np.testing.assert_allclose(mine, kerass, rtol=0, atol=2e-5 * RATE)  # Keras rounds 0.999 to float32
    assert np.median(np.abs(mine - weights)) > RATE


def test_each_array_is_updated_by_one_operation():
    variables = [keras.Variable(np.ones(n), dtype="float32") for n in (2, 3)]
    optimizer = FusedAdam(RATE)
    optimizer.build(variables)
    gradients = [tf.ones(n) for n in (2, 3)]
    assert operations(lambda: optimizer.apply(gradients, variables)).count("ResourceApplyAdam") == 2
    assert optimizer._shared is None  # or a graph would live as long as the optimizer


def sparse(gradient):
    return tf.IndexedSlices(tf.constant(gradient[:3]), tf.constant([0, 2, 4]), tf.constant(gradient.shape))


@pytest.mark.parametrize("options, dtype, shape", [
    ({"amsgrad": True}, "float32", tf.constant),
    ({}, "float16", tf.constant),
    ({}, "float32", sparse),
])  # fmt: skip
def test_what_the_operation_does_not_do_is_keras_own(options, dtype, shape):
    weights, (gradient,) = problem(dtype, 1)

    def after_a_step(kind):
        optimizer, variable = kind(RATE, **options), keras.Variable(weights, dtype=dtype)
        optimizer.build([variable])
        step = lambda: optimizer.apply([shape(gradient)], [variable])
        assert "ResourceApplyAdam" not in operations(step)
        step()
        return [keras.ops.convert_to_numpy(array) for array in (variable, *optimizer.variables)]

    mine, kerass = after_a_step(FusedAdam), after_a_step(keras.optimizers.Adam)
    assert not np.array_equal(mine[0], weights)
    for one, other in zip(mine, kerass):
        np.testing.assert_array_equal(one, other)


def test_a_keras_that_keeps_adams_averages_otherwise_is_taken_as_it_is_with_one_warning(monkeypatch):
    steps = []
    monkeypatch.setattr(keras.optimizers.Adam, "update_step", lambda self, *arguments: steps.append(arguments))
    optimizer, variables = FusedAdam(RATE), [keras.Variable(np.ones(2), dtype="float32") for _ in range(3)]
    optimizer.build(variables)
    del optimizer._velocities
    with pytest.warns(RuntimeWarning, match="_velocities.*FusedAdam is plain Adam") as said:
        optimizer.apply([tf.ones(2)] * 3, variables)
    assert len(steps) == 3 and len(said) == 1


def test_a_compiled_model_is_saved_and_goes_on_where_it_stopped(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(2, 16, 4)).astype(np.float32)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    rate = keras.optimizers.schedules.CosineDecay(1e-2, 10)
    model.compile(FusedAdam(rate, beta_1=0.8, clipnorm=1.0), loss="mse", jit_compile=False)
    model.train_on_batch(x, y)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert type(again.optimizer) is FusedAdam and again.optimizer.get_config() == model.optimizer.get_config()
    for either in (again, model):
        either.train_on_batch(x, y)
    for mine, other in zip(again.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(mine, other)


# Batch normalisation ------------------------------------------------------------------------------------------------


def normalised_in_numpy(x, gamma, beta, upstream, epsilon=1e-3):
    """What the layer gives in training, mean and variance of the batch, and three gradients; in float64."""
    x, upstream = x.astype(float), upstream.astype(float)
    axes, values = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    mean, variance = x.mean(axes), x.var(axes)
    normal = (x - mean) / np.sqrt(variance + epsilon)
    d_gamma, d_beta = (upstream * normal).sum(axes), upstream.sum(axes)
    d_x = gamma / np.sqrt(variance + epsilon) * (upstream - (d_beta + normal * d_gamma) / values)
    return gamma * normal + beta, mean, variance, d_x, d_gamma, d_beta


def made(shape, mean=2.0, std=3.0, **options):
    """A layer with weights of its own, an input and an upstream gradient."""
    rng = np.random.default_rng(0)
    layer = keras.layers.BatchNormalization(momentum=0.75, **options)
    layer.build(shape)
    weights = [rng.uniform(0.5, 2, weight.shape) for weight in layer.weights]
    layer.set_weights(weights)
    return layer, weights, rng.normal(mean, std, shape).astype(np.float32), rng.normal(size=shape).astype(np.float32)


def training_step(layer, x, upstream):
    """Output, moving averages, and the gradients of input, gamma and beta; traced inside the context."""

    @tf.function(autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = layer(x, training=True)
            loss = tf.reduce_sum(tf.cast(out, tf.float32) * upstream)
        return out, tape.gradient(loss, (x, layer.gamma.value, layer.beta.value))

    with fused_batch_norm():
        out, gradients = step(tf.constant(x))
    return (out, layer.moving_mean, layer.moving_variance, *gradients)


def as_numpy(arrays):
    return [keras.ops.convert_to_numpy(array).astype(float) for array in arrays]


@pytest.mark.parametrize("shape", [(8, 4, 4, 3), (2, 1, 1, 3), (1, 1, 1, 3)])
def test_batch_normalisation_is_the_formula(shape):
    layer, (gamma, beta, old_mean, old_variance), x, upstream = made(shape)
    out, mean, variance, *gradients = normalised_in_numpy(x, gamma, beta, upstream)
    expected = (out, (3 * old_mean + mean) / 4, (3 * old_variance + variance) / 4, *gradients)
    for found, right in zip(as_numpy(training_step(layer, x, upstream)), expected):
        np.testing.assert_allclose(found, right, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("precision, rounding", [
    ("mixed_float16", 2.0**-10), ("mixed_bfloat16", 2.0**-7), ("float16", 2.0**-10), ("bfloat16", 2.0**-7),
])  # fmt: skip
def test_half_precision_is_computed_in_single(precision, rounding):
    """Values whose squares float16 does not hold: mean and variance must come from single precision."""
    layer, (gamma, beta, old_mean, old_variance), x, _ = made((8, 4, 4, 3), mean=300, std=50, dtype=precision)
    half = keras.ops.cast(x, layer.compute_dtype)
    gamma, beta, old_mean, old_variance = as_numpy(layer.weights)  # as they were rounded
    out, mean, variance, *_ = normalised_in_numpy(as_numpy([half])[0], gamma, beta, x)
    with fused_batch_norm():
        assert "FusedBatchNormV3" in training_operations(layer, half)
        found = layer(half, training=True)
    assert found.dtype == layer.compute_dtype
    np.testing.assert_allclose(as_numpy([found])[0], out, rtol=2 * rounding, atol=rounding)
    kept = 1e-5 if precision.startswith("mixed") else 2 * rounding
    np.testing.assert_allclose(as_numpy([layer.moving_mean])[0], (3 * old_mean + mean) / 4, rtol=kept)
    np.testing.assert_allclose(as_numpy([layer.moving_variance])[0], (3 * old_variance + variance) / 4, rtol=kept)


@pytest.mark.parametrize("options, shape", [
    ({}, (8, 5)),
    ({"axis": 1}, (8, 4, 4, 3)),
    ({"scale": False}, (8, 4, 4, 3)),
    ({"center": False}, (8, 4, 4, 3)),
    ({"synchronized": True}, (8, 4, 4, 3)),
    ({"trainable": False}, (8, 4, 4, 3)),
    ({"dtype": "float64"}, (8, 4, 4, 3)),
])  # fmt: skip
def test_other_normalisations_stay_keras_own(options, shape):
    both = []
    for context in (fused_batch_norm, nullcontext):
        layer, _, x, _ = made(shape, **options)
        with context(), warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            assert "FusedBatchNormV3" not in training_operations(layer, x)
            both.append(as_numpy((layer(x, training=True), *layer.weights)))
    for mine, kerass in zip(*both):
        np.testing.assert_array_equal(mine, kerass)


def test_inference_and_masks_stay_keras_own():
    layer, _, x, _ = made((8, 4, 4, 3))
    with fused_batch_norm():
        assert "FusedBatchNormV3" in training_operations(layer, x)
        assert "FusedBatchNormV3" not in operations(lambda: layer(tf.constant(x), training=False))
        masked = lambda: layer(tf.constant(x), training=True, mask=tf.ones((8, 4, 4), bool))
        assert "FusedBatchNormV3" not in operations(masked)


def test_a_keras_that_normalises_otherwise_is_taken_as_it_is_with_one_warning(monkeypatch):
    monkeypatch.setattr(keras.layers.BatchNormalization, "call", lambda self, inputs, training=None, mask=None: inputs)
    layer, _, x, _ = made((8, 4, 4, 3))
    del layer.synchronized
    with fused_batch_norm(), pytest.warns(RuntimeWarning, match="'synchronized'.*does nothing") as said:
        for _ in range(3):
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(x, training=True)), x)
    assert len(said) == 1


def test_the_context_leaves_keras_as_it_was_also_after_an_error_and_within_another():
    own = keras.layers.BatchNormalization.call
    layer, _, x, _ = made((8, 4, 4, 3))
    with pytest.raises(ZeroDivisionError), fused_batch_norm():
        with fused_batch_norm():
            assert training_operations(layer, x).count("FusedBatchNormV3") == 1
        assert "FusedBatchNormV3" in training_operations(layer, x)
        raise ZeroDivisionError
    assert keras.layers.BatchNormalization.call is own
    assert "FusedBatchNormV3" not in training_operations(layer, x)


# Both, in networks --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_whole_network_gets_the_same_gradients_and_averages():
    rng = np.random.default_rng(0)
    images, labels = (
        rng.integers(0, 256, (32, 96, 96, 3), dtype=np.uint8),
        rng.integers(0, 2, (32, 1)).astype("float32"),
    )
    after = []
    for adam, context in ((FusedAdam, fused_batch_norm), (keras.optimizers.Adam, nullcontext)):
        keras.utils.set_random_seed(0)
        model = build_model("SmallCNN", "none", dropout=0.0, say=lambda _: None)
        model.compile(adam(1e-3), loss="binary_crossentropy", jit_compile=False)
        with context():
            model.fit(images, labels, batch_size=32, verbose=0)
        after.append(as_numpy((*model.non_trainable_variables, *model.optimizer.variables)))
    # Not the weights: where a gradient is next to nothing, Adam's first step is the sign of what rounding left of it.
    for mine, kerass in zip(*after):
        np.testing.assert_allclose(mine, kerass, atol=1e-4 * np.abs(kerass).max() + 1e-12)


@pytest.mark.slow
def test_what_a_run_keeps_is_plain_keras(pcam_folder, tmp_path):
    own = keras.layers.BatchNormalization.call
    settings = Settings(backbone="SmallCNN", weights="none", head="average", epochs=1, augment="full")
    train(open_data(pcam_folder(splits=("train", "valid"), n=40)), tmp_path / "run", settings,
          say=lambda _: None, progress=False)  # fmt: skip
    with zipfile.ZipFile(tmp_path / "run" / "best.keras") as kept:
        assert b"pcam_utils" not in kept.read("config.json") and b"Adam" not in kept.read("config.json")
    assert keras.layers.BatchNormalization.call is own


ON_JAX = """
import numpy as np
from pcam_utils.runtime.fused import FusedAdam, fused_batch_norm, keras
assert keras.backend.backend() == "jax"
rng = np.random.default_rng(0)
x, y = rng.normal(size=(32, 8, 8, 3)).astype("float32"), rng.normal(size=(32, 1)).astype("float32")
own, after = keras.layers.BatchNormalization.call, []
for adam in (FusedAdam, keras.optimizers.Adam):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers, keras.layers.Dense(1)])
    model.compile(adam(1e-2, clipnorm=1.0), loss="mse")
    with fused_batch_norm():
        assert keras.layers.BatchNormalization.call is own
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    after.append(model.get_weights())
assert all(np.array_equal(mine, kerass) for mine, kerass in zip(*after))
"""


@pytest.mark.slow
def test_on_jax_both_are_keras_own(monkeypatch):
    pytest.importorskip("jax")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    ran = subprocess.run([sys.executable, "-c", ON_JAX], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
