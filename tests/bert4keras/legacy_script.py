# A script in the style of 2021 (bert4keras 0.10 on Keras 2.3 or tf.keras), for test_legacy.py.
# Usage: python -m keras_extras.bert4keras legacy_script.py folder

import json
import os
import sys

import keras.backend as KB
import numpy as np
import tensorflow as tf
from bert4keras.backend import K, keras, search_layer, set_gelu
from bert4keras.layers import ConditionalRandomField, GlobalPointer, Loss
from bert4keras.models import build_transformer_model
from bert4keras.optimizers import (
    AdaFactor,
    Adam,
    extend_with_gradient_accumulation,
    extend_with_gradient_accumulation_v2,
    extend_with_weight_decay,
)
from bert4keras.snippets import AutoRegressiveDecoder, DataGenerator, sequence_padding
from keras.engine.topology import Layer
from keras.layers import Dense, Dropout, Lambda
from keras.layers.merge import add
from keras.models import Model
from keras.utils.np_utils import to_categorical

config = tf.ConfigProto()
config.gpu_options.allow_growth = True
K.set_session(tf.Session(config=config))
set_gelu("tanh")
assert KB is K and keras.backend is K
os.chdir(sys.argv[1])
np.random.seed(0)
keras.utils.set_random_seed(0)
report = {}

options = dict(
    vocab_size=20,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    hidden_act="gelu",
    max_position=16,
)

# Sentences of the words 5..12 or of 12..19, of every length
data = []
for i in range(120):
    label = i % 2
    words = np.random.randint(5 + 7 * label, 13 + 7 * label, np.random.randint(3, 9))
    data.append(([2] + list(words) + [3], label))


class data_generator(DataGenerator):
    def __iter__(self, random=False):
        batch_token_ids, batch_segment_ids, batch_labels = [], [], []
        for is_end, (token_ids, label) in self.sample(random):
            batch_token_ids.append(token_ids)
            batch_segment_ids.append([0] * len(token_ids))
            batch_labels.append([label])
            if len(batch_token_ids) == self.batch_size or is_end:
                batch_token_ids = sequence_padding(batch_token_ids)
                batch_segment_ids = sequence_padding(batch_segment_ids)
                batch_labels = sequence_padding(batch_labels)
                yield [batch_token_ids, batch_segment_ids], batch_labels
                batch_token_ids, batch_segment_ids, batch_labels = [], [], []


train_generator = data_generator(data, 8)

# --- Classification: lr=, fit_generator, a callback without super().__init__() -----------------

bert = build_transformer_model(return_keras_model=False, **options)
output = Lambda(lambda x: x[:, 0])(bert.model.output)
output = Dropout(0.1)(output)
output = Dense(2, activation="softmax", kernel_initializer=bert.initializer)(output)
model = Model(bert.model.input, [output])
report["output is a tensor"] = bool(K.is_keras_tensor(model.output))
AdamW = extend_with_weight_decay(Adam, "AdamW")
model.compile(
    loss="sparse_categorical_crossentropy",
    optimizer=AdamW(lr=5e-3, weight_decay_rate=0.01, exclude_from_weight_decay=["Norm", "bias"]),
    metrics=["accuracy"],
)
report["lr"] = float(K.get_value(model.optimizer.lr))


def evaluate():
    total, right = 0.0, 0.0
    for x_true, y_true in train_generator:
        y_pred = model.predict(x_true).argmax(axis=1)
        total += len(y_true)
        right += (y_true[:, 0] == y_pred).sum()
    return right / total


class Evaluator(keras.callbacks.Callback):
    def __init__(self):
        self.best = 0.0
        self.losses = []

    def on_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])

    def on_epoch_end(self, epoch, logs=None):
        accuracy = evaluate()
        if accuracy > self.best:
            self.best = accuracy
            self.model.save_weights("best_model.weights")
        K.set_value(self.model.optimizer.lr, K.get_value(self.model.optimizer.lr) / 2)


evaluator = Evaluator()
history = model.fit_generator(
    train_generator.forfit(),
    steps_per_epoch=len(train_generator),
    epochs=3,
    callbacks=[evaluator],
    verbose=0,
    workers=1,
)
report["accuracy"] = float(evaluator.best)
report["batches"] = len(evaluator.losses)
report["lr after"] = float(K.get_value(model.optimizer.lr))
x, y = next(iter(train_generator))
report["evaluate"] = [float(v) for v in model.evaluate(x, y, verbose=0)]
probabilities = model.predict([x[0].tolist(), x[1].tolist()])
model.load_weights("best_model.weights")
report["predict_generator"] = list(
    model.predict_generator(train_generator.fortest(), steps=len(train_generator)).shape
)
wanted = model.predict(x)

# --- The whole model under any name -----------------------------------------------------------

model.save("whole.model")
model = keras.models.load_model("whole.model")
report["reload"] = float(np.abs(model.predict(x) - wanted).max())

# --- A language model: a Loss layer, no other loss; None as targets -----------------------------


class CrossEntropy(Loss):
    def compute_loss(self, inputs, mask=None):
        y_true, y_pred = inputs
        y_mask = K.cast(mask[1], K.floatx())[:, 1:]
        y_true, y_pred = y_true[:, 1:], y_pred[:, :-1]
        loss = K.sparse_categorical_crossentropy(y_true, y_pred)
        loss = K.sum(loss * y_mask) / K.sum(y_mask)
        self.add_metric(loss, name="perplexity", aggregation="mean")
        return loss


lm = build_transformer_model(application="lm", **options)
output = CrossEntropy(1)([lm.inputs[0], lm.outputs[0]])
lm = Model(lm.inputs, output)
AdaFactorG = extend_with_gradient_accumulation(AdaFactor, name="AdaFactorG")
lm.compile(optimizer=AdaFactorG(learning_rate=1e-2, grad_accum_steps=2))


def without_targets():
    for x, _ in train_generator.forfit():
        yield x, None


history = lm.fit(without_targets(), steps_per_epoch=15, epochs=2, verbose=0)
report["lm loss"] = [float(v) for v in history.history["loss"]]
report["lm metric"] = [float(v) for v in history.history["perplexity"]]


class Completion(AutoRegressiveDecoder):
    @AutoRegressiveDecoder.wraps(default_rtype="probas")
    def predict(self, inputs, output_ids, states):
        token_ids = np.concatenate([inputs[0], output_ids], 1)
        return self.last_token(lm).predict([token_ids, np.zeros_like(token_ids)])


completion = Completion(start_id=None, end_id=3, maxlen=6)
report["beam"] = [int(i) for i in completion.beam_search([[2, 6]], topk=2)]
report["samples"] = len(completion.random_sample([[2, 6]], 3, topk=5))

# --- The same with model.add_loss and add_metric on symbolic tensors ----------------------------

unilm = build_transformer_model(application="unilm", **options)
y_true = unilm.input[0][:, 1:]
y_mask = K.cast(unilm.get_layer("Embedding-Token").output_mask[:, 1:], K.floatx())
y_pred = unilm.output[:, :-1]
loss = K.sparse_categorical_crossentropy(y_true, y_pred)
loss = K.sum(loss * y_mask) / K.sum(y_mask)
report["symbolic loss"] = float(
    K.function(unilm.inputs, [loss])([np.array([[2, 5, 3]]), np.array([[0, 0, 0]])])[0]
)
unilm.add_loss(loss)
unilm.add_metric(tf.reduce_mean(y_mask), name="filled", aggregation="mean")
unilm.compile(optimizer=keras.optimizers.Adam(lr=1e-2, decay=1e-3, epsilon=None))
history = unilm.fit(without_targets(), steps_per_epoch=15, epochs=2, verbose=0)
report["unilm loss"] = [float(v) for v in history.history["loss"]]
report["unilm metric"] = [float(v) for v in history.history["filled"]]

# --- A sequence labelling model with a CRF and a layer of one's own ------------------------------


class Scale(Layer):
    def build(self, input_shape):
        self.scale = self.add_weight("scale", (input_shape[-1],), initializer="ones")

    def call(self, inputs):
        return K.reshape(inputs * self.scale, K.shape(inputs))


tagger = build_transformer_model(**options)
hidden = tagger.get_layer("Transformer-0-FeedForward-Norm").output
hidden = add([hidden, Scale()(hidden)])
CRF = ConditionalRandomField(lr_multiplier=10)
tagger = Model(tagger.input, CRF(Dense(4)(hidden)))
tagger.compile(loss=CRF.sparse_loss, optimizer=Adam(1e-2), metrics=[CRF.sparse_accuracy])


def tags():
    while True:
        for x, _ in train_generator:
            yield x, (x[0] > 12).astype(int) + (x[0] > 3)


history = tagger.fit(tags(), steps_per_epoch=15, epochs=3, verbose=0)
report["crf loss"] = [float(v) for v in history.history["loss"]]
report["transitions"] = list(K.eval(CRF.trans).shape)

# --- Two outputs, one loss function and raw TensorFlow functions ---------------------------------

pair = build_transformer_model(**options)
first = GlobalPointer(2, 8)(pair.output)
second = Dense(3, activation="softmax")(tf.reduce_mean(pair.output, axis=1))
pair = Model(pair.inputs, [first, second])
pair.compile(loss=lambda y_true, y_pred: K.mean(K.square(y_true - K.tanh(y_pred))), optimizer="sgd")
z = [np.zeros((8, 2, x[0].shape[1], x[0].shape[1])), to_categorical([0, 1] * 4, 3)]
report["pair losses"] = len(np.ravel(pair.train_on_batch(x, z)))
report["pair shapes"] = [list(o.shape) for o in pair.predict(x)]

# --- Adversarial training: a train_function of one's own -----------------------------------------

small = build_transformer_model(**options)
output = Dense(2, activation="softmax")(Lambda(lambda x: x[:, 0])(small.output))
small = Model(small.input, output)
AdamG = extend_with_gradient_accumulation_v2(Adam)
small.compile(
    loss="sparse_categorical_crossentropy",
    optimizer=AdamG(lr=1e-2, grad_accum_steps=1),
    metrics=["sparse_categorical_accuracy"],
)
small._make_train_function()
old_train_function = small.train_function
embeddings = search_layer(small.output, "Embedding-Token").embeddings
gradients = K.gradients(small.total_loss, [embeddings])
gradients = K.zeros_like(embeddings) + gradients[0]
feeds = small._feed_inputs + small._feed_targets + small._feed_sample_weights
embedding_gradients = K.function(inputs=feeds, outputs=[gradients], name="embedding_gradients")
norms, moved = [], []


def train_function(inputs):
    grads = embedding_gradients(inputs)[0]
    norms.append(float(np.sqrt((grads**2).sum())))
    delta = 0.1 * grads / (norms[-1] + 1e-8)
    before = K.eval(embeddings)
    K.set_value(embeddings, before + delta)
    outputs = old_train_function(inputs)
    K.set_value(embeddings, K.eval(embeddings) - delta)
    moved.append(float(np.abs(K.eval(embeddings) - before).max()))
    return outputs


small.train_function = train_function
history = small.fit(train_generator.forfit(), steps_per_epoch=15, epochs=2, verbose=0)
report["adversarial loss"] = [float(v) for v in history.history["loss"]]
report["adversarial steps"] = [len(norms), min(norms), min(moved)]

print("REPORT " + json.dumps(report))
