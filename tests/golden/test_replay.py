"""Real KVM is the oracle: every recording replays on the model without one difference.

A recording is what an unmodified kernel did (tools/record_kvm.py): each operation of the file is
done again by the model, and registers, exits, MP states, errno and lists are compared. What the
model makes no claim about is counted under the reason, and the reasons are these few.
"""

import itertools
from pathlib import Path

import pytest
from kvm_recorder.recording import read
from kvm_recorder.replay import Replay, host_of

from emu.world.profile import profile_names

GOLDEN = sorted(Path(__file__).parent.glob("*.jsonl.xz"))
REASONS = {
    "KVM_ARM_PREFERRED_TARGET describes the host's core",
    "the values of ID and timer registers are the host core's",
    "system, timer and cache registers are the host core's",
    "how many registers the host core's list has",
    "vCPU attributes of timers and PMU",
    "capabilities that have nothing to do with hypercalls",
}
LEAST_CALLS = 10_000
SHOWN = 20


def profile_of(path):
    """kvm-6.1-cortex-a72.jsonl.xz speaks for the profile kvm-6.1."""
    return "-".join(path.name.split("-")[:2])


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name.removesuffix(".jsonl.xz"))
def test_the_model_does_what_the_kernel_did(path):
    recording = read(path)
    assert profile_of(path) in profile_names()
    assert sum(1 for _ in recording.calls()) > LEAST_CALLS
    replay = Replay(profile_of(path), host_of(recording))
    found = itertools.chain.from_iterable(map(replay.differences, recording))
    differences = [str(difference) for difference in itertools.islice(found, SHOWN)]
    assert not differences, "\n".join(differences)
    assert set(replay.skipped) <= REASONS
    assert sum(replay.skipped.values()) < len(recording) / 20


def test_there_are_recordings():
    assert GOLDEN
