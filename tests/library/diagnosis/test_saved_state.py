"""What a training holds is put back."""

import torch

from gradlib.diagnosis.saved_state import SavedState


def test_a_snapshot_restores_what_closures_hold() -> None:
    noise = torch.Generator().manual_seed(0)
    memory, table, total = [1], {"a": torch.zeros(2)}, 0

    def step() -> None:
        nonlocal total
        total += 1
        memory.append(2)
        table["a"].add_(torch.rand(2, generator=noise))

    before = noise.get_state()
    snapshot = SavedState([step])
    step()
    snapshot.restore()
    assert (memory, total) == ([1], 0)
    torch.testing.assert_close(table["a"], torch.zeros(2))
    torch.testing.assert_close(noise.get_state(), before)
