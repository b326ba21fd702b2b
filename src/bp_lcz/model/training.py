"""From a packed data set and a prompt table to a trained trial on disk, resumable after a kill."""

import csv
import hashlib
import io
import json
import logging
import os
import platform
import resource
import shutil
import sys
import time
import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch.utils.flop_counter import FlopCounterMode

from bp_lcz import progress
from bp_lcz.bands import PATCH_SIDE
from bp_lcz.errors import DeviceError, UserError
from bp_lcz.files import locked, staged_file, staged_folder
from bp_lcz.model.backbones import complete_options
from bp_lcz.model.bp_lcz import BPLCZ
from bp_lcz.model.calibration import fit_calibration
from bp_lcz.model.checkpoint import versions, write_checkpoint
from bp_lcz.model.memory import keep_freed_memory
from bp_lcz.model.start import freeze_statistics, load_start, start_line, take_over
from bp_lcz.model.task import MONITORED, History, LczTask, PatchModule, class_weights
from bp_lcz.params import PromptVectors, Tier, TrialParams
from bp_lcz.patches.loader import chosen_patches
from bp_lcz.patches.store import PackedStore
from bp_lcz.patches.tiers import open_store
from bp_lcz.paths import DEMO, STARTS
from bp_lcz.records import ModelDescription, PackManifest, TextOrigin, Timings, Validation
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.scoring.metrics import defined
from bp_lcz.so2sat.places import joined
from bp_lcz.text.table import PromptTable, read_prompt_table

RESUME_STATE = "last.ckpt"

_FIRST = "BP_LCZ_FIRST_PROCESS"
"""Environment variable with the process that started the others of a trial."""
_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
_NODES = ("NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")


def train_trial(
    trial: TrialParams,
    packed: Path,
    prompts: Path,
    scratch: Path,
    out: Path,
    *,
    tier: Tier = "auto",
    dataset: Path = DEMO,
    starts: Path = STARTS,
) -> None:
    """Train one trial and write ``model.safetensors``, ``model.json``, ``history.csv`` and ``timings.json``.

    A killed run is taken up after its last finished epoch. The resume state lies in a folder of ``scratch``
    named by a hash of everything that decides the result, so a changed parameter never meets an old state.

    Args:
        trial: the trial's parameters.
        packed: output of the stage ``pack``.
        prompts: output of the stage ``prompts``.
        scratch: folder for resume states; must not be an output of DVC, which deletes those.
        out: folder of the four files; they appear there in one step.
        tier: what patches are read from; no part of the result.
        dataset: folder of the So2Sat files, read by the tier ``hdf5`` only.
        starts: folder of the checkpoints that training begins with.

    Raises:
        UserError: if an input is missing, the device or tier cannot be had, the trial cannot begin with its start, or
            another process trains the same trial.
    """
    manifest = PackManifest.read(packed / "manifest.json")
    table = read_prompt_table(prompts)
    trial = trial.model_copy(update={"backbone_options": complete_options(trial.backbone, trial.backbone_options)})
    device = choose_device(trial)
    channels = manifest.channels
    state = scratch / "train" / _state_key(trial, manifest, prompts, device)
    is_first = _is_first_process(trial)
    lock = state.with_suffix(".lock")
    alone = locked(lock, f"another process is training trial '{trial.name}'; wait for it", wait=False)
    with alone if is_first else nullcontext():
        torch.set_num_threads(trial.train.threads)
        keep_freed_memory()
        torch.manual_seed(trial.seed)
        network = BPLCZ(
            trial,
            channels,
            table.vectors(None if trial.variant == "msm" else list(channels.groups), _vectors(trial), trial.seed),
            torch.tensor(manifest.mean, dtype=torch.float32),
            torch.tensor(manifest.std, dtype=torch.float32),
        )
        start, taken, places = trial.train.start, dict[str, int](), manifest.places
        if start is not None:
            begun = load_start(starts, start)
            taken = take_over(network, trial, channels, begun)
            places = joined(places, begun.description.places)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        where = torch.device("cpu" if device == "cpu" else "cuda")
        stores = partial(open_store, tier, packed=packed, dataset=dataset, device=where)
        pools = chosen_patches(trial.train, packed, trial.seed)
        counts = manifest.class_counts["training"]
        if "training" in pools:
            taught = PackedStore(packed, "training").labels[pools["training"]]
            counts = tuple(np.bincount(taught, minlength=CLASS_COUNT).tolist())
        data = PatchModule(stores, trial.train.batch_size, trial.seed, pools)
        steps = -(-sum(counts) // trial.train.batch_size) * trial.train.epochs
        task = LczTask(network, trial, class_weights(counts, trial.train.balance), steps, taken)
        if frozen := start is not None and sum(counts) < trial.train.frozen_norm_below:
            freeze_statistics(network, taken)
        clock = _Clock(trial, sum(counts))
        best = ModelCheckpoint(
            state,
            "best",
            monitor=MONITORED,
            mode="max",
            save_last=True,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        _quieten()
        # Only code that reads memory before it is written needs it filled; it costs 5 to 20 % of a step on a GPU.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        trainer = lightning.Trainer(
            accelerator="cpu" if device == "cpu" else "gpu",
            devices=trial.train.devices,
            num_nodes=trial.train.nodes,
            strategy=trial.train.strategy,
            use_distributed_sampler=False,
            precision=trial.train.precision,
            max_epochs=trial.train.epochs,
            deterministic=True,
            callbacks=[best, EarlyStopping(MONITORED, patience=trial.train.patience, mode="max"), clock],
            plugins=[_WholeCheckpoints(), LightningEnvironment()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        parameters = sum(p.numel() for p in network.parameters())
        processes = trial.train.devices * trial.train.nodes
        if is_first:
            progress.tell(key=state.name, device=device)
            print(
                f"{trial.name}: {trial.backbone} as {trial.variant}, {parameters:,} parameters, seed {trial.seed}, "
                f"on {f'{processes} x ' * (processes > 1)}{device} ({trial.train.threads} threads, "
                f"{trial.train.precision})",
                flush=True,
            )
            if start is not None:
                print(f"{trial.name}: {start_line(network, start, taken, frozen=frozen)}", flush=True)
        trainer.fit(task, data, ckpt_path=_resumable(state, trial.name, is_first), weights_only=True)
        if not is_first:
            return
        chosen = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
        task.load_state_dict(chosen["state_dict"], strict=False)
        kept = task.history[chosen["epoch"]]
        description = ModelDescription(
            **{key: value for key, value in trial if key != "name"},
            trial=trial.name,
            channels=channels,
            level=manifest.level,
            likeness=manifest.likeness,
            places=places,
            calibration=fit_calibration(*(each.numpy() for each in chosen["validated"])),
            parameters=parameters,
            from_start=sum(taken.values()),
            operations=operations(network),
            best_epoch=int(kept["epoch"]),
            validation=Validation(
                oa=kept["validation_oa"], kappa=defined(kept["validation_kappa"]), loss=kept["validation_loss"]
            ),
            dataset=manifest.dataset,
            kind=manifest.kind,
            leakage=manifest.leakage,
            source=manifest.source,
            text=_text(table, trial),
            versions=versions(device),
            device=device,
        )
        _publish(out, network, description, task.history, clock)
        shutil.rmtree(state)
        lock.unlink()


def _is_first_process(trial: TrialParams) -> bool:
    """Whether this process holds the state and writes. Lightning starts the program again for each other process.

    Ranks and tasks in the environment, which Slurm or torchrun may set, do not concern this training: one process
    trains for each device in params.yaml.
    """
    if trial.train.devices > 1 and os.environ.setdefault(_FIRST, str(os.getpid())) != str(os.getpid()):
        return False
    for name in (*_RANKS, *(_NODES if trial.train.nodes == 1 else ())):
        os.environ.pop(name, None)
    node = int(os.environ.get("NODE_RANK", 0))
    rank_zero_only.rank = node  # type: ignore[attr-defined]
    return node == 0


def choose_device(trial: TrialParams) -> str:
    """``cpu`` or the name of the GPU.

    Raises:
        DeviceError: if the parameters ask for a GPU and there is none.
        UserError: if they ask for more devices than there are, or for a precision that the device does not have.
    """
    available = torch.cuda.is_available()
    if trial.train.device == "cuda" and not available:
        raise DeviceError("params.yaml", "train.device: cuda, but torch sees no GPU")
    device = torch.cuda.get_device_name() if available and trial.train.device != "cpu" else "cpu"
    if device != "cpu" and trial.train.devices > torch.cuda.device_count():
        raise UserError(
            "params.yaml", f"train.devices: {trial.train.devices}, but torch sees {torch.cuda.device_count()} GPU(s)"
        )
    if device == "cpu" and trial.train.precision == "16-mixed":
        raise UserError("params.yaml", "train.precision: 16-mixed needs a GPU; use bf16-mixed or 32-true")
    return device


def _state_key(trial: TrialParams, manifest: PackManifest, prompts: Path, device: str) -> str:
    identity = {
        "trial": trial.model_dump(),
        "data": manifest.model_dump(mode="json"),
        "prompts": hashlib.sha256(prompts.read_bytes()).hexdigest(),
        "code": [hashlib.sha256(file.read_bytes()).hexdigest() for file in code_of(trial.backbone)],
        "torch": torch.__version__,
        "device": device,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def code_of(backbone: str) -> list[Path]:
    """The package's own files that decide what training of this backbone gives: those of dvc.yaml's stage ``train``."""
    package = Path(__file__).parents[1]
    patches = [file for file in (package / "patches").glob("[a-z]*.py") if file.stem != "pack"]
    backbones = [package / "model/backbones" / f"{name}.py" for name in ("__init__", backbone)]
    so2sat = [package / "so2sat" / f"{name}.py" for name in ("geo", "ground", "hdf5", "layout", "places")]
    alone = [package / name for name in ("scoring/metrics.py", "text/table.py", "scheme.py", "bands.py")]
    published = ("pretrained", "sen2lcz_weights")
    model = [file for file in (package / "model").glob("[a-z]*.py") if file.stem not in published]
    return sorted([*patches, *backbones, *so2sat, *alone, *model])


class _WholeCheckpoints(TorchCheckpointIO):
    """Writes each checkpoint as a whole or not at all.

    Lightning writes to another folder and moves the file. Between two file systems that is a copy, and a kill
    leaves half of it.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ARG002
    ) -> None:
        whole = io.BytesIO()
        torch.save(checkpoint, whole)
        with staged_file(Path(path)) as file:
            file.write_bytes(whole.getbuffer())


def _resumable(state: Path, trial: str, is_first: bool) -> Path | None:
    """The resume state if there is one that can be read; what a failing disk left of one is removed."""
    resume = state / RESUME_STATE
    if not resume.exists() or not is_first:  # by the time that there are others, the first has looked at it
        return resume if resume.exists() else None
    try:
        torch.load(resume, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types, by where the file ends
        print(f"{trial}: {resume} is damaged ({type(error).__name__}); starting anew", file=sys.stderr, flush=True)
        resume.unlink()
        return None
    print(f"{trial}: resuming from {resume}", flush=True)
    return resume


def _quieten() -> None:
    """Drop Lightning's advertising and its notes on what this module has chosen on purpose."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers",
        ".*`isinstance\\(treespec, LeafSpec\\)`",
        ".*exists and is not empty",
        ".*number of training batches",
        ".*in eval mode at the start of training",  # statistics of a start that stay
    ):
        warnings.filterwarnings("ignore", message)


def _vectors(trial: TrialParams) -> PromptVectors:
    """The variant ``encoder`` has random vectors where others have texts: it is to know none."""
    return trial.prompts.model_copy(update={"source": "random"}) if trial.variant == "encoder" else trial.prompts


def operations(network: BPLCZ) -> int:
    """Multiply-adds that one patch more costs in inference, of matrix products, convolutions and attention alone."""
    network.eval()
    place = next(network.parameters())
    counts = []
    for batch in (1, 2):  # the prompts are brought to the common space once for a batch
        sen1, sen2 = (
            torch.zeros(batch, channels, PATCH_SIDE, PATCH_SIDE, device=place.device)
            for channels in (network.sen1_count, len(network.mean) - network.sen1_count)
        )
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(sen1, sen2)
        counts.append(counter.get_total_flops() // 2)
    return counts[1] - counts[0]


def _text(table: PromptTable, trial: TrialParams) -> TextOrigin | None:
    """What made the texts, if the network has seen them."""
    if trial.variant == "plain" or _vectors(trial).source == "random":
        return None
    made = table.origin
    template = made.class_template if trial.variant == "msm" else made.template
    return TextOrigin(encoder=made.encoder, revision=made.revision, sha256=made.sha256, template=template)


def _publish(out: Path, network: BPLCZ, description: ModelDescription, history: History, clock: "_Clock") -> None:
    with staged_folder(out) as folder:
        write_checkpoint(folder, network, description)
        with (folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)
        clock.timings().write(folder / "timings.json")


class _Clock(Callback):
    """One line for each epoch, and what the training cost."""

    def __init__(self, trial: TrialParams, patches: int) -> None:
        self.trial = trial
        self.patches = patches
        self.seconds = 0.0
        self.epochs = 0
        self._start = 0.0

    def on_train_epoch_start(self, *_: object) -> None:
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        seconds = time.perf_counter() - self._start
        self.seconds += seconds
        self.epochs += 1
        assert isinstance(task, LczTask)
        row = task.history[-1]
        if not trainer.is_global_zero:
            return
        progress.tell(**row, patches_per_second=round(self.patches / seconds, 1))
        print(
            f"{self.trial.name}: epoch {row['epoch']}/{self.trial.train.epochs}  "
            f"loss {row['training_loss']:.3f}  validation loss {row['validation_loss']:.3f}  "
            f"kappa {row['validation_kappa']:.3f}  {self.patches / seconds:.0f} patches/s",
            flush=True,
        )

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seconds, self.epochs = state["seconds"], state["epochs"]

    def timings(self) -> Timings:
        kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return Timings(
            seconds=round(self.seconds, 3),
            epochs=self.epochs,
            patches_per_second=round(self.epochs * self.patches / self.seconds, 1),
            # macOS counts bytes where Linux counts KiB.
            peak_memory_mib=round(kibibytes / (2**20 if sys.platform == "darwin" else 2**10), 1),
            threads=self.trial.train.threads,
            machine=f"{platform.system()} {platform.machine()}",
        )
