"""Sources give their items by row, wherever these lie."""

import torch

from attar.training.data.source import joined


def test_joined_items_are_those_of_both_in_the_order_of_the_rows() -> None:
    first, second = torch.arange(3.0)[:, None], torch.arange(10.0, 15.0)[:, None]
    both = joined(first, second)
    assert len(both) == 8
    for rows in ([7, 0, 3, 2, 3], [1, 0], [4]):
        expected = torch.cat([first, second])[rows]
        assert torch.equal(both[torch.tensor(rows)], expected)
