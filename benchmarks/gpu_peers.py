"""`python -m benchmarks.gpu_peers`: the same steps as plain PyTorch loops, for `benchmarks.gpu`.

`benchmarks.pcfg_bert` has its loop from here as well.

Models are Hugging Face's where there are such. Products of float32 matrices are in TF32, as JAX
does them on a GPU. The loops are spared some of the work that ours do: there is no schedule of
the learning rate, and sentences are drawn at random from a pool made before.
"""

from collections.abc import Callable

import torch
import transformers  # its models are loaded on first use, by the parts that have them
from torch import nn

from benchmarks.gpu import Scale
from benchmarks.gpu_timing import (
    NARROW,
    Attention,
    Shapes,
    Side,
    Sides,
    StepsCommand,
    mlp_config,
    pcfg_config,
    shapes_of,
    time_all,
)
from benchmarks.side import Work
from common.base.config import parse
from common.base.errors import run_command
from common.nn.blocks import TransformerConfig
from common.nn.mlp import MLPConfig
from common.sequence.masking import MaskingConfig
from parity.config import StudentConfig
from parity.config import TrainConfig as TeacherConfig
from pcfg.config import TrainConfig as PCFGConfig
from pcfg.sampler import make_sampler
from pcfg.vocabulary import Vocabulary

ParityConfig = TeacherConfig | StudentConfig
Batch = tuple[torch.Tensor, torch.Tensor]
STEPS = {"batch-one": 1000, "quick": 500, "transformer": 40, "pcfg-quick": 40, "pcfg-paper": 5}
"""In a timed round."""
TINY_STEPS = 2
POOL_BATCHES = 4
"""Sentences in the pool, in batches."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLIP_NORM = 1.0
IGNORED = -100
"""Label of a position that is not to be predicted."""


def main(args: list[str]) -> None:
    """Time the sides of one part."""
    command = parse(StepsCommand, args, prog="benchmarks.gpu_peers", description="PyTorch's steps.")
    torch.set_float32_matmul_precision("high")
    time_all(command, PARTS[command.part](shapes_of(command.scale)), peak_bytes)


def peak_bytes() -> int | None:
    """The most memory that tensors took on the device at one time."""
    return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None


def steps_of(shapes: Shapes, part: str) -> int:
    """Steps in a timed round."""
    return STEPS[part] if shapes.scale == "full" else TINY_STEPS


def batch_one(shapes: Shapes) -> Sides:
    """The MLP on batches of one, at both widths."""
    steps = steps_of(shapes, "batch-one")
    configs = [mlp_config(shapes, width) for width in (None, NARROW)]
    return {f"width {config.model.width}": mlp_side(config, None, steps) for config in configs}


def quick(shapes: Shapes) -> Sides:
    """The preset's teacher and student."""
    teacher, student, steps = shapes.quick.teacher, shapes.quick.student, steps_of(shapes, "quick")
    return {
        "teacher": mlp_side(teacher, None, steps),
        "student": mlp_side(student, teacher, steps),
    }


def transformer(shapes: Shapes) -> Sides:
    """The published GPT-2s under autocast to bfloat16 and in float32."""
    teacher, student = shapes.transformer.teacher, shapes.transformer.student
    steps = steps_of(shapes, "transformer")
    sides: dict[str, Callable[[], Side]] = {}
    for name, autocast in (("bfloat16 autocast", True), ("float32", False)):
        sides[f"teacher, {name}"] = gpt2_side(teacher, None, steps, autocast)
        sides[f"student, {name}"] = gpt2_side(student, teacher, steps, autocast)
    return sides


def pcfg_quick(shapes: Shapes) -> Sides:
    """The preset's teacher."""
    config, steps = pcfg_config(shapes, "pcfg-quick"), steps_of(shapes, "pcfg-quick")
    return {
        "teacher, bfloat16 autocast": bert_side(config, steps, autocast=True),
        "teacher, float32": bert_side(config, steps, autocast=False),
    }


def pcfg_paper(shapes: Shapes) -> Sides:
    """The published teacher."""
    config, steps = pcfg_config(shapes, "pcfg-paper"), steps_of(shapes, "pcfg-paper")
    return {"teacher, bfloat16 autocast": bert_side(config, steps, autocast=True)}


PARTS: dict[str, Callable[[Shapes], Sides]] = {
    "batch-one": batch_one,
    "quick": quick,
    "transformer-paper": transformer,
    "pcfg-quick": pcfg_quick,
    "pcfg-paper": pcfg_paper,
}


def mlp_side(config: ParityConfig, teacher: TeacherConfig | None, steps: int) -> Callable[[], Side]:
    """SGD on an MLP, on the labels or on a teacher's hard labels."""
    data, batch_size = config.data, config.training.batch_size

    def make() -> Side:
        model, theirs = mlp(config), None if teacher is None else mlp(teacher)
        optimizer = torch.optim.SGD(model.parameters(), lr=config.optim.learning_rate[0])
        loss_fn = nn.CrossEntropyLoss()

        def step() -> None:
            x_BxI, labels_B = parity_batch(data.d, data.k, batch_size)
            if theirs is not None:
                with torch.no_grad():
                    labels_B = theirs(x_BxI).argmax(1)
            optimizer.zero_grad()
            loss_fn(model(x_BxI), labels_B).backward()
            optimizer.step()

        return Side(repeated(step, steps), steps, batch_size)

    return make


def gpt2_side(
    config: ParityConfig, teacher: TeacherConfig | None, steps: int, autocast: bool
) -> Callable[[], Side]:
    """Adam on a GPT-2 that answers at the last token."""
    data, batch_size = config.data, config.training.batch_size

    def make() -> Side:
        model, theirs = gpt2(config).train(), None if teacher is None else gpt2(teacher).eval()
        optimizer = adam(model, config.optim.learning_rate[0], config.optim.betas)
        loss_fn = nn.CrossEntropyLoss()

        def step() -> None:
            x_BxI, labels_B = parity_batch(data.d, data.k, batch_size)
            tokens_BxT = (x_BxI < 0).long()
            with torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
                if theirs is not None:
                    with torch.no_grad():
                        labels_B = theirs(tokens_BxT, logits_to_keep=1).logits[:, -1].argmax(1)
                logits_BxC = model(tokens_BxT, logits_to_keep=1).logits[:, -1]
                loss = loss_fn(logits_BxC.float(), labels_B)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return Side(repeated(step, steps), steps, batch_size, tokens=data.d)

    return make


def pcfg_quick_on_cpu(scale: Scale, attention: Attention, threads: int, steps: int) -> Work:
    """The preset's teacher in float32, for `benchmarks.pcfg_bert`."""
    torch.set_num_threads(threads)
    config = pcfg_config(shapes_of(scale), "pcfg-quick")
    return Work(bert_side(config, steps, autocast=False, attention=attention)().advance)


def bert_side(
    config: PCFGConfig, steps: int, *, autocast: bool, attention: Attention = "sdpa"
) -> Callable[[], Side]:
    """Adam with clipped gradients on a BERT that predicts masked tokens."""
    sampler, batch_size = make_sampler(config.data.load()), config.training.batch_size
    length, vocabulary = sampler.longest + 2, sampler.vocabulary

    def make() -> Side:
        model = bert(config.model, vocabulary.size, length, attention).train()
        optimizer = adam(model, config.optim.learning_rate[0], config.optim.betas)
        pool_NxT = sentences(config, POOL_BATCHES * batch_size)

        def step() -> None:
            tokens_BxT = pool_NxT[torch.randint(len(pool_NxT), (batch_size,), device=DEVICE)]
            inputs_BxT, labels_BxT = masked(config.masking, vocabulary, tokens_BxT)
            with torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
                seen_BxT = tokens_BxT != vocabulary.pad
                loss = model(inputs_BxT, attention_mask=seen_BxT.long(), labels=labels_BxT).loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimizer.step()

        return Side(repeated(step, steps), steps, batch_size, tokens=length)

    return make


def repeated(step: Callable[[], None], steps: int) -> Callable[[], None]:
    """That many steps, to the end of the last one's work on the device."""

    def advance() -> None:
        for _ in range(steps):
            step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    return advance


def mlp(config: ParityConfig) -> nn.Sequential:
    """d -> width ReLU -> 2."""
    assert isinstance(config.model, MLPConfig)
    d, width = config.data.d, config.model.width
    return nn.Sequential(nn.Linear(d, width), nn.ReLU(), nn.Linear(width, 2)).to(DEVICE)


def gpt2(config: ParityConfig) -> "transformers.GPT2LMHeadModel":
    """Hugging Face's GPT-2 of the same shape, untied."""
    model = config.model
    assert isinstance(model, TransformerConfig)
    shape = transformers.GPT2Config(
        vocab_size=2,
        n_positions=config.data.d,
        n_embd=model.width,
        n_layer=model.layers,
        n_head=model.heads,
        resid_pdrop=model.dropout,
        embd_pdrop=model.dropout,
        attn_pdrop=model.dropout,
        tie_word_embeddings=False,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    return transformers.GPT2LMHeadModel(shape).to(DEVICE)  # pyright: ignore[reportArgumentType]


def bert(
    model: TransformerConfig, vocabulary: int, length: int, attention: Attention
) -> "transformers.BertForMaskedLM":
    """Hugging Face's BERT of the same shape."""
    shape = transformers.BertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=length,
        hidden_size=model.width,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        intermediate_size=4 * model.width,
        type_vocab_size=1,
        hidden_dropout_prob=model.dropout,
        attention_probs_dropout_prob=model.dropout,
        pad_token_id=None,
        attn_implementation=attention,  # pyright: ignore[reportCallIssue]
    )
    return transformers.BertForMaskedLM(shape).to(DEVICE)  # pyright: ignore[reportArgumentType]


def adam(model: nn.Module, rate: float, betas: tuple[float, float]) -> torch.optim.Adam:
    """In PyTorch's fastest form on a GPU."""
    return torch.optim.Adam(model.parameters(), lr=rate, betas=betas, fused=DEVICE == "cuda")


def parity_batch(d: int, k: int, batch_size: int) -> Batch:
    """Inputs `(B, d)` in {-1,+1} and labels, drawn on the device."""
    x_BxI = torch.randint(0, 2, (batch_size, d), device=DEVICE).float().mul_(2).sub_(1)
    return x_BxI, (x_BxI[:, :k].prod(1) > 0).long()


def sentences(config: PCFGConfig, count: int) -> torch.Tensor:
    """Random words between BOS and EOS, of random lengths that the grammar has, then padding."""
    grammar = config.data.load()
    sampler = make_sampler(grammar)
    vocabulary, shortest = sampler.vocabulary, grammar.length_bounds()[0]
    lengths_Nx1 = torch.randint(shortest, sampler.longest + 1, (count, 1))
    words_NxT = torch.randint(len(vocabulary.terminal_ids), (count, sampler.longest + 2))
    tokens_NxT = words_NxT + min(vocabulary.terminal_ids)
    place_1xT = torch.arange(sampler.longest + 2)[None]
    tokens_NxT = torch.where(place_1xT <= lengths_Nx1, tokens_NxT, vocabulary.pad)
    tokens_NxT = torch.where(place_1xT == lengths_Nx1 + 1, vocabulary.eos, tokens_NxT)
    tokens_NxT[:, 0] = vocabulary.bos
    return tokens_NxT.to(DEVICE)


def masked(masking: MaskingConfig, vocabulary: Vocabulary, tokens_BxT: torch.Tensor) -> Batch:
    """What the model sees, and the labels of the positions that it is to predict."""
    first, words = min(vocabulary.terminal_ids), len(vocabulary.terminal_ids)
    is_word_BxT = (tokens_BxT >= first) & (tokens_BxT < first + words)
    selected_BxT = is_word_BxT & (torch.rand(tokens_BxT.shape, device=DEVICE) < masking.fraction)
    fate_BxT = torch.rand(tokens_BxT.shape, device=DEVICE)
    random_BxT = torch.randint_like(tokens_BxT, words) + first
    is_random_BxT = fate_BxT < masking.mask_share + masking.random_share
    seen_BxT = torch.where(is_random_BxT, random_BxT, tokens_BxT)
    seen_BxT = torch.where(fate_BxT < masking.mask_share, vocabulary.mask, seen_BxT)
    labels_BxT = torch.where(selected_BxT, tokens_BxT, IGNORED)
    return torch.where(selected_BxT, seen_BxT, tokens_BxT), labels_BxT


if __name__ == "__main__":
    run_command(main)
