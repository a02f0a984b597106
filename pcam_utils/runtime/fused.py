"""Adam and batch normalisation as single TensorFlow operations, so that a large network's first step starts sooner."""

# Before its first step, TensorFlow turns a network into a graph, one Python call for each operation. NASNetMobile has
# 192 batch normalisations and 742 arrays to train. Keras spells out each normalisation (some 50 operations with its
# gradient) and each array's Adam update (some 15); TensorFlow has kernels of its own for both, with the same formulas.

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

from .backend import load_keras

keras = load_keras()


@keras.saving.register_keras_serializable(package="pcam_utils")
class FusedAdam(keras.optimizers.Adam):  # type: ignore[name-defined]  # Keras has no types
    """Keras's Adam, with TensorFlow's `ResourceApplyAdam` for the update of each array.

    It takes the arguments of `keras.optimizers.Adam`, keeps the same variables in the same order, and computes by the
    same formulas. On JAX, with `amsgrad`, in half precision and for sparse gradients it works as Keras's own Adam.

    Examples
    --------
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(FusedAdam(1e-3), loss="mse")
    """

    _shared: Callable[[Any], dict[str, Any]] | None = None

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Update the variables. The powers of both betas are computed once, and not anew for each variable."""
        self._shared = cache(self._numbers)
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._shared = None  # a graph's tensors must not outlive its tracing

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable and its two averages."""
        if self._shared is None or not self._fits(gradient, variable):
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        try:
            place = self._get_variable_index(variable)
            slots = [averages[place].value.handle for averages in (self._momentums, self._velocities)]
        except AttributeError as missing:
            _warn_once(
                f"Keras {keras.__version__} keeps Adam's averages otherwise ({missing}): FusedAdam is plain Adam."
            )
            super().update_step(gradient, variable, learning_rate)
            return
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=slots[0],
            v=slots[1],
            lr=tf.cast(learning_rate, gradient.dtype),
            grad=gradient,
            **self._shared(gradient.dtype),
        )

    def _fits(self, gradient: Any, variable: Any) -> bool:
        if self.amsgrad or keras.backend.backend() != "tensorflow":
            return False
        import tensorflow as tf

        return (
            isinstance(gradient, tf.Tensor)
            and hasattr(variable, "handle")
            and gradient.dtype == variable.dtype
            and gradient.dtype in (tf.float32, tf.float64)
        )

    def _numbers(self, dtype: Any) -> dict[str, Any]:
        import tensorflow as tf

        # Not tf.cast, which makes float32 of Python's numbers first.
        as_tensor = keras.ops.convert_to_tensor
        step = keras.ops.cast(self.iterations + 1, dtype.name)
        numbers = {"beta1": self.beta_1, "beta2": self.beta_2, "epsilon": self.epsilon}
        numbers = {name: as_tensor(number, dtype.name) for name, number in numbers.items()}
        return numbers | {f"{name}_power": tf.pow(numbers[name], step) for name in ("beta1", "beta2")}


@contextmanager
def fused_batch_norm() -> Iterator[None]:
    """Make batch normalisation one operation, `FusedBatchNormV3`, in every training step that is traced inside.

    Keras traces a training step in the first `fit` after `compile`, so the context must surround `fit`. When it ends,
    `keras.layers.BatchNormalization` is as it was before. Saved models are not changed by it. Some layers keep Keras's
    own way: those whose input is not an image, those with an axis that is not the last, without scale or centre, with a
    mask, synchronised, renormalising, or in float64. On JAX all layers keep it.

    Examples
    --------
    >>> with fused_batch_norm():
    ...     model.fit(images, labels)  # doctest: +SKIP
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    layer, own = keras.layers.BatchNormalization, keras.layers.BatchNormalization.call
    layer.call = _fused(own)
    try:
        yield
    finally:
        layer.call = own


def _fused(own: Callable) -> Callable:
    """Give the layer's `call` with the single operation if that suits the layer, and else its own."""
    import tensorflow as tf

    @wraps(own)
    def call(self: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        try:  # to find out what is missing before anything is computed
            suits = training is True and mask is None and _suits(self, inputs)
            if suits:
                weights = self.gamma, self.beta, self.moving_mean, self.moving_variance
                momentum, epsilon, precision = self.momentum, self.epsilon, self.compute_dtype
        except AttributeError as missing:
            _warn_once(f"Keras {keras.__version__} normalises otherwise ({missing}): fused_batch_norm() does nothing.")
            suits = False
        if not suits:
            return own(self, inputs, training=training, mask=mask)
        # Weights and sums are float32 whatever the layer's precision, as in Keras: in half precision they overflow. The
        # input keeps its precision: to cast it and its gradient there and back took four operations a layer.
        x = keras.ops.convert_to_tensor(inputs)
        gamma, beta, old_mean, old_variance = (keras.ops.cast(array, "float32") for array in weights)
        out, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon, is_training=True
        )
        values = tf.cast(tf.size(x) // x.shape[-1], tf.float32)
        variance *= (values - 1) / values  # TensorFlow gives the variance of a sample, Keras that of the batch
        self.moving_mean.assign(old_mean + (mean - old_mean) * (1 - momentum))
        self.moving_variance.assign(old_variance + (variance - old_variance) * (1 - momentum))
        return keras.ops.cast(out, precision)

    return call


def _suits(layer: Any, inputs: Any) -> bool:
    """True if `FusedBatchNormV3` computes what this layer would."""
    return (
        layer.trainable
        and layer.center
        and layer.scale
        and not layer.synchronized
        and not getattr(layer, "renorm", False)  # newer than the oldest Keras that we run on
        and len(inputs.shape) == 4
        and layer.axis in (-1, 3)
        and keras.backend.standardize_dtype(inputs.dtype) in ("float32", "float16", "bfloat16")
    )


@cache
def _warn_once(sentence: str) -> None:
    warnings.warn(sentence, RuntimeWarning, stacklevel=3)
