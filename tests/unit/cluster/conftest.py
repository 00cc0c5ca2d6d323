"""The contract's assertions explain themselves too, though it is no test module."""

import pytest

pytest.register_assert_rewrite("cluster_contract")
