"""The server: only this machine can reach it, only its own script runs, and mistakes get a message."""

import http.client
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from rich.console import Console

from tests.unit.view.conftest import served
from verl_axpo.view.command import chosen, save, source_of
from verl_axpo.view.page import POLICY, page
from verl_axpo.view.server import ViewServer
from verl_axpo.view.training import TrainingSource


def ask(url: str, path: str, host: str | None = None) -> tuple[int, dict[str, str], bytes]:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port or 0, timeout=10)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    response = connection.getresponse()
    return response.status, dict(response.getheaders()), response.read()


def test_it_listens_on_this_machine_alone(trace: Path) -> None:
    with ViewServer(TrainingSource(trace)) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_a_name_that_points_here_is_refused(trace: Path) -> None:
    with served(TrainingSource(trace)) as url:
        for name in ("evil.example:80", "[", "127.0.0.1.evil.example", ""):
            assert ask(url, "/data/run", host=name)[0] == 403
        assert ask(url, "/data/run", host="localhost:1")[0] == 200


def test_the_page_runs_no_script_but_its_own(trace: Path) -> None:
    with served(TrainingSource(trace)) as url:
        status, headers, content = ask(url, "/")
    assert (status, content.decode()) == (200, page())
    assert headers["Content-Security-Policy"] == POLICY
    assert "default-src 'none'; script-src 'sha256-" in POLICY
    assert "unsafe-inline" not in POLICY.split("style-src")[0]


@pytest.mark.parametrize("path", ["/data/nothing", "/data/chapter/99", "/other", "/data/image/../../etc/passwd"])
def test_what_is_not_there_is_reported_in_words(trace: Path, path: str) -> None:
    with served(TrainingSource(trace)) as url:
        status, headers, content = ask(url, path)
    assert status == 404
    assert headers["Content-Type"].startswith("text/plain")
    assert b"view: " in content or b"got path" in content


def test_a_file_holds_the_steps_that_were_asked_for(trace: Path, tmp_path: Path) -> None:
    out, console = tmp_path / "page.html", Console(record=True, width=200)
    save(TrainingSource(trace), "2", out, console)
    assert "with 2" in console.export_text()
    text = out.read_text()
    assert '"chapter/2"' in text
    assert '"chapter/1"' not in text


def test_steps_are_numbers_and_ranges(trace: Path) -> None:
    source = TrainingSource(trace)
    assert (chosen(source, None), chosen(source, "1-2"), chosen(source, "2, 1")) == (["2"], ["1", "2"], ["2", "1"])
    assert chosen(source, "1,1-2") == ["1", "2"]
    with pytest.raises(ValueError, match="7 is not there; there are 1 to 2"):
        chosen(source, "1,7")
    with pytest.raises(ValueError, match="2-1 is not there"):
        chosen(source, "2-1")


def test_a_folder_with_nothing_to_look_at_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no step and no benchmark yet"):
        chosen(source_of(tmp_path, tmp_path), None)
    with pytest.raises(ValueError, match=r"expected a folder with step_\*\.jsonl"):
        source_of(tmp_path / "no", tmp_path / "no")
