"""What a training stage needs of a GPU and of its host, from config values alone: shape, Setting -> Phases, in GiB.

    ModelShape + Setting -> update_phase()   while the weights are trained (vLLM asleep)
                         -> rollout_phase()  while vLLM generates (gradients gone)
                         -> kv_tokens()      what is left for keys and values
                         -> host_phase()     what lies in a node's own memory

An estimate with its terms shown, not a measurement: docs/design/memory_estimate.md has the formulas and their reasons.
"""

from dataclasses import dataclass

from verl_axpo.preflight.shapes import BF16, CHANNELS, ModelShape

GIB = 2**30
FP32 = 4  # bytes
ADAM = 2 * FP32  # its two moments
CONTEXT_GIB = 4.0  # CUDA context, NCCL buffers, fragmentation of the allocator
ASLEEP_GIB = 2.0  # vLLM's CUDA graphs and context, which sleep does not free
ENGINE_GIB = 4.0  # of vLLM's share: activations of a prefill, CUDA graphs
BYTES_PER_LOGIT = 6  # bfloat16 logits, their gradient, one copy at the sampling temperature
FUSED_CHUNK = 512  # tokens whose logits exist at a time in verl's FusedLinearForPPO
ROW_COPIES = 2  # of a row's pixel values: TransferQueue's until the step ends, the trainer's while it works on the step


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What of a config decides about memory; tokens and images are those of one micro-batch of one GPU.

    `questions`, `rows` (continuations included) and `row_image_tokens` (expected of one row) are those of an RL step,
    whose images wait in the memory of `nodes` hosts; `question_image_tokens` those of a question's image.
    """

    gpus: int
    tokens: int
    image_tokens: int
    nodes: int = 1
    questions: int = 0
    rows: int = 0
    row_image_tokens: float = 0.0
    question_image_tokens: int = 0
    offload_policy: bool = False  # FSDP2 keeps parameters, gradients and moments in host memory
    param_offload: bool = False  # parameters leave the GPU while vLLM runs
    optimizer_offload: bool = False  # so do the moments
    fused_kernels: bool = False
    checkpointing: bool = True
    tensor_parallel: int = 1
    utilization: float = 0.0  # vLLM's share of the GPU; 0: no rollout engine


@dataclass(frozen=True, slots=True)
class Term:
    """One addend of an estimate."""

    name: str
    gib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A phase of a step and what lies in a GPU's memory during it."""

    name: str
    terms: tuple[Term, ...]

    @property
    def gib(self) -> float:
        """The sum of the terms."""
        return sum(term.gib for term in self.terms)


NO_HOST = Phase(name="host", terms=())


def update_phase(shape: ModelShape, setting: Setting) -> Phase:
    """Forward and backward of one micro-batch, with everything that is resident then."""
    resident = 0 if setting.offload_policy else (2 * FP32 + ADAM) * shape.parameters / setting.gpus
    terms = [
        Term("weights, gradients and Adam's moments, fp32, sharded", resident / GIB),
        Term("gathered layers and embeddings, bf16, and their gradients", _gathered_bytes(shape) / GIB),
        Term(f"activations of {setting.tokens:,} tokens", _activation_bytes(shape, setting) / GIB),
        Term(f"vision activations of {setting.image_tokens:,} image tokens", _vision_bytes(shape, setting) / GIB),
        Term("logits", _logit_bytes(shape, setting) / GIB),
        Term("CUDA, NCCL, fragmentation", CONTEXT_GIB),
    ]
    if setting.utilization:
        terms.append(Term("vLLM, asleep", ASLEEP_GIB))
    return Phase(name="update", terms=tuple(terms))


def rollout_phase(shape: ModelShape, setting: Setting, capacity_gib: float) -> Phase:
    """vLLM's share of a GPU of `capacity_gib`, and what of the trainer stays beside it."""
    per_parameter = (0 if setting.param_offload else FP32) + (0 if setting.optimizer_offload else ADAM)
    resident = 0 if setting.offload_policy else per_parameter * shape.parameters / setting.gpus
    return Phase(
        name="rollout",
        terms=(
            Term(f"vLLM ({setting.utilization:.0%} of {capacity_gib:g} GiB)", setting.utilization * capacity_gib),
            Term("what of weights and moments stays on the GPU", resident / GIB),
            Term("CUDA, NCCL, fragmentation", CONTEXT_GIB),
        ),
    )


def kv_tokens(shape: ModelShape, setting: Setting, capacity_gib: float) -> int:
    """Tokens whose keys and values fit into one vLLM replica (`tensor_parallel` GPUs) beside its weights."""
    share = setting.utilization * capacity_gib - ENGINE_GIB
    room = share * GIB * setting.tensor_parallel - BF16 * shape.parameters
    return max(0, int(room / shape.kv_bytes_per_token))


def host_phase(shape: ModelShape, setting: Setting, *, reference: bool) -> Phase:
    """The memory of one node's host: what is kept off its GPUs, and the images of an RL step.

    verl keeps an FSDP2 reference model on the host (`forward_only` implies the offload policy). Processes, libraries
    and buffers on the way are not in it.
    """
    if setting.offload_policy:
        per_parameter = 2 * FP32 + ADAM
    else:
        per_parameter = (FP32 if setting.param_offload else 0) + (ADAM if setting.optimizer_offload else 0)
    per_token = _pixel_bytes(shape)
    rows = ROW_COPIES * setting.rows * setting.row_image_tokens * per_token
    questions = setting.questions * setting.question_image_tokens * per_token
    terms = {
        "weights, gradients, moments kept off the GPUs": per_parameter * shape.parameters,
        "reference model, fp32": (FP32 if reference else 0) * shape.parameters,
        f"images of {setting.rows:,} rows, in TransferQueue and in the trainer": rows,
        f"images of {setting.questions:,} questions while their groups run": questions,
    }
    return Phase(
        name="host", terms=tuple(Term(name, size / setting.nodes / GIB) for name, size in terms.items() if size)
    )


def checkpoint_gib(shape: ModelShape) -> float:
    """One checkpoint on disk, all in fp32: weights, moments, and the model for Hugging Face.

    verl hands the full fp32 state dict to `save_pretrained`; that config.json says bfloat16 changes no weight.
    """
    return (2 * FP32 + ADAM) * shape.parameters / GIB


def _pixel_bytes(shape: ModelShape) -> int:
    """What the processor makes of the pixels behind one image token: fp32 values of its patches, two frames each."""
    vision = shape.vision
    return vision.merge**2 * CHANNELS * vision.temporal_patch * vision.patch**2 * FP32


def _gathered_bytes(shape: ModelShape) -> float:
    """Two layers (the present and the next) and the embeddings in bf16; fp32 gradients of one layer and of those."""
    layers = shape.layer_parameters * (2 * BF16 + FP32)
    return layers + shape.embedding_parameters * (BF16 + FP32)


def _activation_bytes(shape: ModelShape, setting: Setting) -> float:
    """The input of each layer, and one layer's inside with its gradient; all layers' insides without checkpointing."""
    inputs = setting.tokens * shape.hidden * BF16 * shape.layers
    inside = setting.tokens * BF16 * 2 * (8 * shape.hidden + 3 * shape.intermediate)
    return inputs + inside * (1 if setting.checkpointing else shape.layers)


def _vision_bytes(shape: ModelShape, setting: Setting) -> float:
    """As `_activation_bytes`, for the patches of the images; an ungated MLP."""
    vision = shape.vision
    patches = setting.image_tokens * vision.merge**2
    inputs = patches * vision.hidden * BF16 * vision.depth
    inside = patches * BF16 * 2 * (8 * vision.hidden + 2 * vision.intermediate)
    return inputs + inside * (1 if setting.checkpointing else vision.depth)


def _logit_bytes(shape: ModelShape, setting: Setting) -> float:
    tokens = min(setting.tokens, FUSED_CHUNK) if setting.fused_kernels else setting.tokens
    return tokens * shape.vocabulary * BYTES_PER_LOGIT
