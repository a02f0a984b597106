"""Lets Keras on TensorFlow write one operation where it writes dozens, so that the first training step starts sooner."""

# Before its first step, TensorFlow turns a network into a graph, one Python call for each operation. NASNetMobile has 192
# batch normalisations and 742 arrays to train. Keras spells out each normalisation (some 50 operations with its gradient)
# and each array's Adam update (some 15); TensorFlow has kernels of its own for both, with the same formulas.

from __future__ import annotations

from functools import wraps

from .backend import load_keras

keras = load_keras()


def shorten_graphs():
    """Make Keras use TensorFlow's kernels for batch normalisation in training, and for Adam. Once is enough."""
    if not hasattr(keras.optimizers.Adam.update_step, "__wrapped__"):
        keras.layers.BatchNormalization.call = _batchnorm(keras.layers.BatchNormalization.call)
        keras.optimizers.Adam.apply = _note_numbers(keras.optimizers.Adam.apply)
        keras.optimizers.Adam.update_step = _adam(keras.optimizers.Adam.update_step)


def _batchnorm(call):
    import tensorflow as tf

    @wraps(call)
    def short_call(self, inputs, training=None, mask=None):
        pictures = len(inputs.shape) == 4 and self.axis in (-1, 3) and inputs.dtype == tf.float32
        plain = self.center and self.scale and mask is None and not self.synchronized
        if not (training is True and self.trainable and pictures and plain):
            return call(self, inputs, training=training, mask=mask)
        out, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=self.gamma, offset=self.beta, mean=[], variance=[], epsilon=self.epsilon, is_training=True
        )
        values = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
        variance *= (values - 1) / values  # TensorFlow's is that of a sample, Keras's that of the batch
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.value.assign_sub((moving.value - now) * (1 - self.momentum))
        return out

    return short_call


def _note_numbers(apply):
    """Make what all arrays share once, not for each of them."""

    @wraps(apply)
    def noting(self, grads, trainable_variables=None):
        as_tensor = keras.ops.convert_to_tensor
        step = keras.ops.cast(self.iterations + 1, "float32")
        numbers = {name: as_tensor(getattr(self, name), "float32") for name in ("beta_1", "beta_2", "epsilon")}
        powers = {f"{name}_power": keras.ops.power(numbers[name], step) for name in ("beta_1", "beta_2")}
        self._numbers = numbers | powers
        return apply(self, grads, trainable_variables)

    return noting


def _adam(update_step):
    import tensorflow as tf

    @wraps(update_step)
    def short_step(self, gradient, variable, learning_rate):
        place = self._get_variable_index(variable)
        if self.amsgrad or not isinstance(gradient, tf.Tensor) or gradient.dtype != tf.float32:
            return update_step(self, gradient, variable, learning_rate)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            lr=learning_rate,
            grad=gradient,
            **{name.replace("beta_", "beta"): number for name, number in self._numbers.items()},
        )

    return short_step
