"""One small data module and its teachers, shared by the tests here."""

from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pytest

from datamodules.instruction import InstructionDataModule
from kdmodules.losses import KDLoss
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.network import Network, build_network
from kdmodules.responses import DatasetResponses, ResponseContext, ResponseSource
from kdmodules.student import StudentModule
from kdmodules.teacher_cache import CacheJob, TeacherCache
from kdmodules.teachers import Teachers
from tests.kdmodules.conftest import TINY
from tests.kdmodules.responses.conftest import MakeContext, encoder, make_context, random_records
from tests.kdmodules.student_runs import make_data, make_student, make_trainer

TeacherOf = Callable[..., str]
__all__ = ["encoder", "make_context"]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> InstructionDataModule:
    """The smallest built-in corpus, read once."""
    made = make_data(tmp_path_factory.mktemp("data"), manifest_folder=None)
    made.setup("fit")
    return made


@pytest.fixture(scope="session")
def teacher_of(data: InstructionDataModule, tmp_path_factory: pytest.TempPathFactory) -> TeacherOf:
    """Writes a random teacher of a family, whose distributions are uneven, once."""
    folder = tmp_path_factory.mktemp("teachers")

    def write(family: str, seed: int = 5) -> str:
        path = folder / f"{family}-{seed}"
        if not path.is_dir():
            window = "n_positions" if family == "gpt2" else "max_position_embeddings"
            network = Network(family, None, {**TINY[family], window: 512})
            model = build_network(network, data.tokenizer, seed)
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.data.mul_(12.0)
            model.save_pretrained(path)
            data.tokenizer.save_pretrained(path)
        return str(path)

    return write


class Fit:
    """Trains a student for two steps and validates it.

    Attributes:
        student: The trained module.
        means: Token means of every step, then the development figures.
        loaded: Number of teachers in memory behind every step.
    """

    def __init__(
        self,
        folder: Path,
        data: InstructionDataModule,
        teacher: str | list[str],
        cache: TeacherCache | None,
        responses: ResponseSource | None = None,
        kd_loss: KDLoss | None = None,
        ckpt_path: str | None = None,
        **options: object,
    ) -> None:
        source = responses or DatasetResponses()
        self.student = make_student(teacher, source, kd_loss, cache=cache)
        self.means: list[dict[str, float]] = []
        self.loaded: list[int] = []
        self.student.on_step_means = lambda found: self.means.append(dict(found))
        limits = {"max_steps": 2, "val_check_interval": 2, "limit_val_batches": 1}
        options["callbacks"] = [_Watch(self.loaded), *options.get("callbacks", [])]
        self.trainer = make_trainer(folder, **{**limits, **options})
        self.trainer.fit(self.student, data, ckpt_path=ckpt_path)
        metrics = self.trainer.callback_metrics
        self.means.append({name: float(metrics[name]) for name in ("val/loss", "val/teacher_kl")})


class _Watch(pl.Callback):
    def __init__(self, loaded: list[int]) -> None:
        self.loaded = loaded

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: StudentModule, *_: object) -> None:
        self.loaded.append(len(pl_module.teachers.models))


class GivenTeachers(Teachers):
    """Teachers that are there already; counts how often they were loaded."""

    def __init__(self, models: tuple[CausalLM, ...], source: str) -> None:
        super().__init__([source])
        self.given, self.loads = models, 0

    def fetch(self) -> None:
        """Loads them."""
        self.models = self.given
        self.loads += 1


MakeJob = Callable[..., tuple[CacheJob, GivenTeachers]]


@pytest.fixture
def make_job(make_context: MakeContext, teacher_of: TeacherOf, tmp_path: Path) -> MakeJob:
    """Builds jobs over fifteen records, four of them of the development loss.

    The first argument replaces the options, the second the context.
    """
    records = random_records(15)
    base = make_context(records[:11])

    def make(
        cache: TeacherCache | None = None, context: ResponseContext | None = None
    ) -> tuple[CacheJob, GivenTeachers]:
        teachers = GivenTeachers(tuple(base.teachers), teacher_of("gpt2"))
        options = cache or TeacherCache(str(tmp_path / "store"))
        parts = (teachers.fetch, records[11:], DatasetResponses(), context or base)
        return CacheJob(options, teachers, *parts), teachers

    return make
