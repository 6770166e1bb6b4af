"""Read a master and a shard with h5py and compare them with raw values.

usage: read_with_h5py.py MASTER DATASET SHARD VALUES DTYPE N T C
VALUES holds the N samples [T, C] in sample order as raw little-endian float32; samples that no shard
holds are NaN.  DTYPE is float32 or bfloat16: how the samples are stored.
"""

import sys

import h5py
import numpy as np

master, dataset, shard, values, dtype, *shape = sys.argv[1:]
expected = np.fromfile(values, "<f4").reshape([int(length) for length in shape])

with h5py.File(master, "r") as file:
    data = file[dataset]
    assert data.is_virtual
    assert data.dtype == np.float32, data.dtype
    assert data.id.get_type().get_size() == {"float32": 4, "bfloat16": 2}[dtype]
    np.testing.assert_array_equal(data[...], expected)
    np.testing.assert_array_equal(data[1], expected[1])

with h5py.File(shard, "r") as file:
    assert sorted(file) == ["crc32c", "sample", "samples"], sorted(file)
    np.testing.assert_array_equal(file["samples"][...], expected[file["sample"][...]])
    assert file["crc32c"].dtype == np.uint32
