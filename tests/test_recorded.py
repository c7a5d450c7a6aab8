"""Networks, graphs and preprocessing against their recorded outputs: see `recorded`."""

import numpy as np
import pytest
from recorded import FOLDER, RECORDED

# Of the largest value: what the published outputs were held to. In float64 other processors differ by far less, but the
# preprocessing computes in float32, and the files hold float32.
TOLERANCE = 1e-4


@pytest.mark.parametrize("name", RECORDED)
def test_outputs_are_as_recorded(name):
    made = RECORDED[name]()
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as archive:
        assert set(made) == set(archive.files)
        for key in made:
            found, expected = np.asarray(made[key]), archive[key]
            if expected.dtype.kind == "U":
                assert found.tolist() == expected.tolist()
            else:
                largest = np.abs(expected).max()
                np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * largest, err_msg=key)


def test_every_recording_is_compared():
    assert {path.stem for path in FOLDER.glob("*")} == set(RECORDED)
