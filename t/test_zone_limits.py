"""What is leased of limits, in the zone by itself."""

import pytest

from zone_programs import build, run

pytestmark = pytest.mark.dynamic


def test_two_leases_that_end_at_once_both_go_back(tmp_path):
    """What the smaller had left was lost until the window had passed."""
    run(build(tmp_path, "limits.c", "filled.c"))
