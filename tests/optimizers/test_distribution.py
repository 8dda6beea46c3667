"""tf.distribute: two replicas with half a batch each train as one device with the whole."""

import json
import sys


def test_two_replicas_equal_one_device(run_python):
    """In `keras.Model.fit`, in graph mode, and in a loop of the user's own."""
    script = "import runpy; runpy.run_module('tests.optimizers.mirrored', run_name='__main__')"
    found = json.loads(run_python(sys.executable, script, timeout=600).splitlines()[-1])
    assert len(found) > 8
    assert {case: value for case, value in found.items() if not value <= 1e-6} == {}
