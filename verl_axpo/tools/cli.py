"""`verl-axpo tools show | mcp`: what the policy is told of the tools of a config, and the entries of an MCP server."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="Show what the policy is told of tools; add MCP servers.")
console = Console()


@app.command()
def show(config: Annotated[str, typer.Argument(help="A tool config, or the name of one of ours.")]) -> None:
    """Print the system prompt and the schemas of tools."""
    from verl_axpo.prompts import system_prompt, tool_schemas
    from verl_axpo.tools.described import described

    tools = described(config)
    print(system_prompt(tools), end="\n\n")
    print(json.dumps(tool_schemas(tools), indent=1, ensure_ascii=False))


@app.command(context_settings={"ignore_unknown_options": True})
def mcp(
    command: Annotated[
        list[str] | None, typer.Argument(help="The command that starts the server.", metavar="-- COMMAND")
    ] = None,
    url: Annotated[str | None, typer.Option(help="The address of a running server (streamable HTTP).")] = None,
    tool: Annotated[list[str] | None, typer.Option(help="Only this tool of the server; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write; without it, print.")] = None,
) -> None:
    """Write a tool config with the tools of an MCP server.

    Put the entries next to those of other tools, and give each an `advice` if the system prompt should name it.
    """
    from verl_axpo.files import write_atomically
    from verl_axpo.tools.mcp.config import McpConfig
    from verl_axpo.tools.mcp.entries import entries

    given = {"command": command or None, "url": url}
    settings = McpConfig.parse({name: value for name, value in given.items() if value is not None})
    written = asyncio.run(entries(settings))
    names = [entry["tool_schema"]["function"]["name"] for entry in written]
    unknown = sorted(set(tool or ()) - set(names))
    if unknown:
        raise ValueError(f"tool: got {unknown}; {settings.server} has {names}")
    chosen = [entry for entry, name in zip(written, names, strict=True) if not tool or name in tool]
    text = yaml.safe_dump({"tools": chosen}, sort_keys=False, allow_unicode=True, width=120)
    if out is None:
        print(text, end="")
    else:
        write_atomically(out, text.encode())
        console.print(f"wrote {len(chosen)} tools of {settings.server} to {out}", soft_wrap=True)
