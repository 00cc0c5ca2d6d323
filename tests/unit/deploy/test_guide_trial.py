"""README's and the guide's trial are one; a test in the cluster ring types it."""

from guide_trial import commands


def test_readme_and_the_guide_lead_through_the_same_trial():
    assert commands("README.md") == commands("docs/install.md")


def test_the_trial_begins_with_a_cluster_and_leaves_nothing():
    first, *_, leave, last = commands("docs/install.md")
    assert (first, leave, last) == ("make cluster", "exit", "make cluster-down")
