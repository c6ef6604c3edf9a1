"""The reduction under DDP: two processes have one's gradients, also where one scores nothing."""

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from kdmodules.losses import JensenShannon, KDStep, Reduction
from tests.processes import start_ranks

N, V, D = 24, 30, 6
# Where the tokens are cut between the two ranks.
CUTS = ((0, 12, N), (0, 5, N), (0, 0, N))


class Tiny(nn.Module):
    """An embedding tied to its head."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(V, D, generator=torch.Generator().manual_seed(1)))

    def forward(self, rows: slice) -> Tensor:
        generator = torch.Generator().manual_seed(2)
        tokens = torch.randint(0, V, (N,), generator=generator)
        teacher = torch.randn(N, 4, generator=generator), torch.randn(V, 4, generator=generator)
        step = KDStep(
            student_hidden=self.table[tokens[rows]].tanh(),
            student_weight=self.table,
            targets=tokens[rows],
            teachers=[(teacher[0][rows], teacher[1])],
            reduction=Reduction(0.5, chunk_tokens=5),
        )
        return JensenShannon(0.1)(step).total


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for i, cuts in enumerate(CUTS):
        model = DistributedDataParallel(Tiny())
        model(slice(cuts[rank], cuts[rank + 1])).backward()
        if rank == 0:
            torch.save(model.module.table.grad, f"{folder}/{i}.pt")
        # A wrapper that outlives its process group may wait for it for ever.
        del model
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_equal_one_with_even_uneven_and_empty_parts(tmp_path):
    alone = Tiny()
    alone(slice(0, N)).backward()
    start_ranks(work, (str(tmp_path),))
    for i in range(len(CUTS)):
        # DDP averages over ranks; sums over ranks are what one process has.
        torch.testing.assert_close(torch.load(tmp_path / f"{i}.pt") * 2, alone.table.grad)
