"""`report --watch`: the page follows its folder, keeps what a person opened, and serves nothing but itself."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from folders import events, make_auto, make_comparison, make_relatedness, make_run, make_search, write
from typer.testing import CliRunner

from browsing import check_accessible, needs_chromium, started
from polytask.cli import app
from polytask.errors import UserError
from polytask.page.live import HOST, LivePage, PageServer, watch


@contextmanager
def following(folder: Path) -> Iterator[PageServer]:
    """Serve the page of a folder in a thread."""
    with PageServer((HOST, 0), LivePage(folder)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)
        assert not thread.is_alive()


def get(server: PageServer, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, str, Any]:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, answer.headers


def append(folder: Path, text: str) -> None:
    with (folder / "events.jsonl").open("a", encoding="utf-8") as log:
        log.write(text)


def test_a_page_is_drawn_again_when_its_folder_changes_and_only_then(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", finished=False)
    before = sorted(folder.rglob("*"))
    with following(folder) as server:
        status, text, headers = get(server)
        assert status == 200
        assert "Step 20 of 60" in text
        assert "Running; this page updates itself." in text
        assert get(server, If_None_Match=headers["ETag"])[:2] == (304, "")
        step = {"event": "step", "step": 30, "losses": {"task_0": 0.5}}
        append(folder, json.dumps(step) + "\n")
        status, text, headers = get(server, If_None_Match=headers["ETag"])
        assert (status, "Step 30 of 60" in text) == (200, True)
        line = json.dumps({**step, "step": 40})
        append(folder, line[:20])  # as a reader sees it that comes between two writes
        assert "could not be read" not in get(server)[1]
        append(folder, line[20:] + "\n")
        assert "Step 40 of 60" in get(server)[1]
        append(folder, "{broken\n")
        assert "1 line of events.jsonl could not be read" in get(server)[1]
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("event", "words"),
    [("interrupted", "The run was interrupted; it can be resumed."), ("failed", "The run has failed."),
     ("resume", "Running; this page updates itself.")],
)  # fmt: skip
def test_a_page_says_what_became_of_its_run(event: str, words: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", finished=False)
    append(folder, json.dumps({"event": event, "step": 30, "reason": "loss is not finite"}) + "\n")
    with following(folder) as server:
        assert words in get(server)[1]
        write(folder, "scores.json", {"test": {"task_0": {"macro_f1": 0.5}}})
        assert "Finished: scores.json has been written." in get(server)[1]


def test_a_page_says_that_its_run_was_killed(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", finished=False)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with following(folder) as server:
        assert "Running; this page updates itself." in get(server)[1]
        write(folder, ".lock", {"pid": ended.pid, "host": socket.gethostname()})
        text = get(server)[1]
        assert "No process writes into this folder any more: it was stopped before it finished." in text
        assert "--out run --resume" in text
        write(folder, ".lock", {"pid": ended.pid, "host": "another machine"})
        assert "Running; this page updates itself." in get(server)[1]
    write(tmp_path / "new", ".lock", {"pid": ended.pid, "host": socket.gethostname()})
    with following(tmp_path / "new") as server:
        assert "it was stopped before it finished. Nothing was written." in get(server)[1]


@pytest.mark.parametrize("make", [make_comparison, make_relatedness, make_search, make_auto])
def test_every_kind_of_folder_can_be_followed_and_links_to_no_file(make: Any, tmp_path: Path) -> None:
    with following(make(tmp_path / "folder")) as server:
        status, text, _ = get(server)
        assert status == 200
        assert "Finished: " in text
        assert all(link.startswith("#") for link in re.findall(r'<a [^>]*href="([^"]*)"', text))


def test_a_folder_that_vanishes_leaves_its_last_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", finished=False)
    with following(folder) as server:
        get(server)
        shutil.rmtree(folder)
        status, text, _ = get(server)
        assert status == 200
        assert "The folder is gone; this page shows its last state." in text
        assert "task_0: macro_f1 on dev" in text
        make_run(folder)
        assert "Finished: " in get(server)[1]


def test_a_folder_without_anything_yet_is_waited_for_and_one_of_another_kind_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".lock").write_text("{}", "utf-8")
    with following(folder) as server:
        assert "Nothing has been written into the folder yet." in get(server)[1]
        make_run(folder, finished=False)
        assert "Running; this page updates itself." in get(server)[1]
    with pytest.raises(UserError, match=r"neither a run .*did you mean .*run\?"):
        watch(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        watch(tmp_path / "nothing")


@pytest.mark.parametrize(
    "hosts",
    [["evil.example:{port}"], ["127.0.0.1"], ["127.0.0.1:1"], [], ["127.0.0.1:{port}", "evil.example"],
     ["evil.example", "127.0.0.1:{port}"], ["localhost.evil.example:{port}"]],
)  # fmt: skip
def test_a_request_that_names_another_host_is_refused(hosts: list[str], tmp_path: Path) -> None:
    with following(make_run(tmp_path / "run")) as server:
        connection = http.client.HTTPConnection(HOST, server.port, timeout=10)
        connection.putrequest("GET", "/", skip_host=True)
        for host in hosts:
            connection.putheader("Host", host.format(port=server.port))
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 421
        assert b"task_0" not in answer.read()
        connection.close()
        assert get(server, Host=f"localhost:{server.port}")[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/run.json", 404), ("GET", "/../run/run.json", 404), ("GET", "/%2e%2e/run.json", 404),
        ("GET", "//run.json", 404), ("GET", "/?x=1", 404), ("GET", "/report.html", 404), ("POST", "/", 501),
        ("HEAD", "/", 501), ("DELETE", "/", 501), ("OPTIONS", "/", 501), ("TRACE", "/<script>", 501),
    ],
)  # fmt: skip
def test_nothing_but_the_page_is_served(method: str, path: str, status: int, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    with following(folder) as server:
        found, text, headers = get(server, path, method)
        assert found == status
        assert len(text) < 100
        assert "<" not in text
        assert headers["Content-Type"].startswith("text/plain")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers


def test_what_is_no_request_ends_no_server(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with following(make_run(tmp_path / "run")) as server:
        for sent in (b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"x" * 70_000, b""):
            with socket.create_connection((HOST, server.port), timeout=10) as client:
                client.sendall(sent)
                client.shutdown(socket.SHUT_WR)
                client.settimeout(10)
                while client.recv(65_536):
                    pass
        assert get(server)[0] == 200
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_the_command_tells_its_address_and_ends_quietly(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    before = sorted(folder.rglob("*"))
    # What starts the tests in the background may have told its processes to ignore Ctrl-C.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += (
        f"from polytask.cli import app; import sys; app(['report', {str(folder)!r}, '--watch'], standalone_mode=False)"
    )
    code += "; assert not {'torch', 'transformers', 'uvicorn'} & set(sys.modules); print('done')"
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", url)
        assert found is not None
        connection = http.client.HTTPConnection(HOST, int(found[1]), timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "done\n", "")
    assert sorted(folder.rglob("*")) == before


def test_a_taken_port_and_one_without_watch_are_errors(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port: cannot listen on 127.0.0.1:{port} .*leave it out"):
            watch(folder, port)
    done = CliRunner().invoke(app, ["report", str(folder), "--port", "8000"])
    assert "--port: found without --watch" in str(done.exception)


@pytest.mark.slow
@needs_chromium
def test_a_person_loses_neither_place_nor_opened_sections(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", 2, finished=False)
    with started() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 700}, color_scheme="dark")
        told: list[str] = []
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        with following(folder) as server:
            page.goto(server.url)
            check_accessible(page)
            page.click("summary:has-text('Tasks and data')")
            page.click("summary:has-text('Evaluations')")
            page.eval_on_selector("#evaluations .scroll", "one => { one.focus(); one.scrollLeft = 40; }")
            page.evaluate("scrollTo(0, document.getElementById('evaluations').offsetTop - 90)")
            place = page.evaluate("document.getElementById('evaluations').getBoundingClientRect().top")
            more = [*events(["task_0"], steps=400, finished=False)[1:], {"event": "step", "step": 400}]
            append(folder, "".join(json.dumps(event) + "\n" for event in more))
            page.evaluate("look()")
            assert "step 400" in page.inner_text(".lead")
            opened = page.eval_on_selector_all("details[open]", "all => all.map(one => one.closest('section').id)")
            assert opened == ["tasks-and-data", "evaluations"]
            moved = page.evaluate("document.getElementById('evaluations').getBoundingClientRect().top")
            assert moved == pytest.approx(place, abs=2)
            assert page.evaluate("[document.activeElement.className, document.activeElement.scrollLeft]") == [
                "scroll",
                40,
            ]
            write(folder, "scores.json", {"test": {"task_0": {"macro_f1": 0.5}}})
            page.evaluate("look()")
            assert page.inner_text("#state") == "Finished: scores.json has been written."
            version = page.get_attribute("body", "data-version")
            page.evaluate("look()")
            assert page.get_attribute("body", "data-version") == version
            assert told == []
        page.evaluate("look()")
        assert "was stopped; this is the last page" in page.inner_text("#state")
        page.close()
