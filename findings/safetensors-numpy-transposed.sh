#!/usr/bin/env bash
# safetensors 0.8.0, numpy: save_file writes a transposed array's numbers in the order of its memory
# under the transposed shape, so that what is read back is another matrix.
#
# Guess: equal, or refused as safetensors.torch refuses tensors that are not contiguous.
# Seen:  shape (3, 2) with the numbers of shape (2, 3), row by row; no warning.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
packages safetensors==0.8.0 numpy==2.3.4
expect 'import numpy as np
from safetensors.numpy import load_file, save_file

matrix = np.arange(6.0).reshape(2, 3).T
save_file({"matrix": matrix}, "file")
print("saved", matrix.tolist())
print("read ", load_file("file")["matrix"].tolist())' \
'saved [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
read  [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]'
