"""The command of `eval run --serve` against vLLM's own parser."""

import pytest

from verl_axpo.eval.server import Serve


@pytest.mark.parametrize(("gpus", "tp", "engines"), [(8, 1, 8), (8, 2, 4), (1, 1, 1), (0, 1, 1)])
def test_vllm_takes_the_command_and_every_engine_on_a_gpu_has_an_api_process(gpus: int, tp: int, engines: int) -> None:
    from vllm.entrypoints.openai.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    command = Serve(model="some/model", gpus=gpus, tensor_parallel=tp).command(8001)
    options = command[command.index("serve") + 1 if gpus else command.index("--model") :]
    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args(options)
    assert arguments.data_parallel_size == engines
    assert arguments.tensor_parallel_size == tp
    assert arguments.api_server_count == (engines if gpus else None)
    assert (arguments.model_tag if gpus else arguments.model) == "some/model"
    assert (arguments.port, arguments.max_model_len) == (8001, 65_536)


def test_gpus_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="8 GPUs do not divide into replicas of 3"):
        Serve(model="m", gpus=8, tensor_parallel=3)
