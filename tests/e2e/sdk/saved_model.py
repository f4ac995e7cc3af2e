"""A SavedModel of TensorFlow's own, and whether what was deployed of it is still one.

usage: saved_model.py make FOLDER | open FOLDER
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf

what, folder = sys.argv[1:]
if what == "make":

    class Linear(tf.Module):
        def __init__(self):
            self.weights = tf.Variable([[2.0], [3.0]])

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def serve(self, x):
            return {"y": x @ self.weights}

    linear = Linear()
    tf.saved_model.save(linear, folder, signatures=linear.serve)
else:
    # As TensorFlow Serving does: the highest of the numbered folders.
    version = max(int(name) for name in os.listdir(folder) if name.isdigit())
    served = tf.saved_model.load(os.path.join(folder, str(version))).signatures["serving_default"]
    answer = served(x=tf.constant([[1.0, 10.0]]))["y"].numpy().tolist()
    assert answer == [[32.0]], answer
