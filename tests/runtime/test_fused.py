import numpy as np
import pytest

from pcam_utils.models.networks import build_model, keras
from pcam_utils.runtime.backend import prepare

tf = pytest.importorskip("tensorflow")


@pytest.fixture(autouse=True)
def prepared():
    prepare(0)


@pytest.fixture
def slow(monkeypatch):
    """Keras as it comes."""

    def restore():
        for owner, name in ((keras.layers.BatchNormalization, "call"), (keras.optimizers.Adam, "update_step")):
            monkeypatch.setattr(owner, name, getattr(owner, name).__wrapped__)

    return restore


def trained(steps=4, **adam):
    """Weights, moving averages and Adam's averages after a few steps of a small network."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images, labels = (
        rng.integers(0, 256, (32, 96, 96, 3), dtype=np.uint8),
        rng.integers(0, 2, (32, 1)).astype(np.float32),
    )
    model = build_model("SmallCNN", "none", dropout=0.0, say=lambda _: None)
    model.compile(keras.optimizers.Adam(1e-3, **adam), loss="binary_crossentropy", jit_compile=False)
    losses = [float(model.train_on_batch(images, labels)) for _ in range(steps)]
    return (
        losses,
        [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)],
        model.predict(images, verbose=0),
    )


@pytest.mark.parametrize("adam", [{}, {"clipnorm": 0.1}, {"amsgrad": True}, {"weight_decay": 0.01}])
def test_the_short_graph_learns_the_same(slow, adam):
    short = trained(**adam)
    slow()
    long = trained(**adam)
    assert np.allclose(short[0], long[0], rtol=1e-4)
    # Not each number: where a gradient is next to nothing, Adam makes whole steps of rounding.
    assert all(np.isclose(a, b, rtol=1e-2, atol=1e-4).mean() > 0.99 for a, b in zip(short[1], long[1]))
    assert all(np.allclose(a, b, rtol=1e-2, atol=4e-3) for a, b in zip(short[1], long[1]))  # four steps of 1e-3
    assert np.allclose(short[2], long[2], atol=1e-3)


def operations_of(model):
    step = tf.function(lambda x: model(x, training=True)).get_concrete_function(tf.zeros((8, 96, 96, 3), tf.uint8))
    return {operation.type for operation in step.graph.get_operations()}


def test_batch_normalisation_is_one_operation_in_training_alone(slow):
    model = build_model("SmallCNN", "none", say=lambda _: None)
    assert "FusedBatchNormV3" in operations_of(model)
    for layer in model.get_layer("backbone").layers:
        layer.trainable = False
    assert "FusedBatchNormV3" not in operations_of(model)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (keras.layers.BatchNormalization(), (8, 5)),
        (keras.layers.BatchNormalization(axis=1), (8, 4, 4, 3)),
        (keras.layers.BatchNormalization(scale=False), (8, 4, 4, 3)),
        (keras.layers.BatchNormalization(dtype="float16"), (8, 4, 4, 3)),
        (keras.layers.BatchNormalization(dtype="mixed_float16"), (8, 4, 4, 3)),
    ],
)
def test_other_normalisations_stay_keras_own(slow, layer, shape):
    values = np.random.default_rng(0).normal(2, 3, shape).astype(np.float32)
    out = keras.ops.convert_to_numpy(layer(values, training=True)).astype(float)
    axis = tuple(k for k in range(len(shape)) if k != layer.axis % len(shape))
    assert np.allclose(out.mean(axis=axis), 0, atol=2e-2) and np.allclose(out.std(axis=axis), 1, atol=2e-2)
