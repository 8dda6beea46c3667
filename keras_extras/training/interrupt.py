"""Ctrl-C that is not lost."""

import signal
import threading

import keras

__all__ = ["Interrupt"]


class Interrupt(keras.callbacks.Callback):
    """Raises a `KeyboardInterrupt` once more, at the next batch, where Python swallowed it.

    Python prints and ignores what is raised in a destructor or in the callback of a weak reference,
    of which TensorFlow and Keras run many; Ctrl-C at that moment had no effect. Within `with`, in
    the main thread, where Ctrl-C does what it does by default, it is remembered until the end.
    """

    def __init__(self):
        super().__init__()
        self.seen = self.watches = False

    def __enter__(self) -> "Interrupt":
        default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        self.watches = default and threading.current_thread() is threading.main_thread()
        if self.watches:
            signal.signal(signal.SIGINT, self._remember)
        return self

    def __exit__(self, *_):
        if self.watches:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _remember(self, number, frame):
        self.seen = True
        signal.default_int_handler(number, frame)

    def on_train_batch_begin(self, batch, logs=None):
        if self.seen:
            raise KeyboardInterrupt
