from kvpool_operator.cluster.event_times import latest


def test_each_writers_own_time_counts():
    told = [
        {"reason": "Scheduled", "lastTimestamp": None, "eventTime": "2026-01-01T10:00:00.500000Z"},
        {"reason": "FailedMount", "firstTimestamp": "2026-01-01T10:00:01Z", "lastTimestamp": "2026-01-01T10:05:00Z"},
        {"reason": "Pulling", "lastTimestamp": "2026-01-01T10:04:00Z"},
        {"reason": "Timeless", "metadata": {"creationTimestamp": "2026-01-01T10:03:00Z"}},
    ]
    for count, reason in ((1, "Scheduled"), (3, "FailedMount")):
        assert (latest(told[:count]) or {})["reason"] == reason
    assert (latest(told[2:]) or {})["reason"] == "Pulling"


def test_of_one_second_the_last_that_comes_counts():
    told = [{"reason": reason, "lastTimestamp": "2026-01-01T10:00:00Z"} for reason in ("FailedMount", "Pulling")]
    assert (latest(told) or {})["reason"] == "Pulling"
    assert latest([]) is None
    assert latest([{"reason": "Odd"}]) == {"reason": "Odd"}


def mount(at, message, reason="FailedMount"):
    return {"reason": reason, "message": message, "lastTimestamp": f"2026-01-01T00:00:{at:02}Z"}


TIMED_OUT = "Unable to attach or mount volumes: unmounted volumes=[model], unattached volumes=[]: timed out waiting"
MISSING = 'MountVolume.SetUp failed for volume "model" : configmap "chat" not found'


def test_a_mount_that_fails_is_told_by_its_cause_while_the_kubelet_takes_turns_between_cause_and_complaint():
    cause, complaint = mount(1, MISSING), mount(2, TIMED_OUT)
    assert latest([cause, complaint]) == latest([cause]) == cause
    assert latest([complaint]) == complaint
    assert latest([mount(1, "else", "Scheduled"), complaint]) == complaint
    assert latest([cause, complaint, mount(3, "else", "Pulled")])["message"] == "else"
