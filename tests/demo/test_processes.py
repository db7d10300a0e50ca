"""Child processes start, become healthy or fail with evidence, and are always gone afterwards."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import trio

from linearized.demo.failures import StepFailed, tail
from linearized.demo.ports import free_ports
from linearized.demo.processes import Service, ending, run_command

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
print("up", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def web(tmp_path: Path) -> Service:
    port = free_ports(1)[0]
    return Service(
        name="web",
        command=[sys.executable, "-c", SERVER, str(port)],
        log=tmp_path / "web.log",
        health=f"http://127.0.0.1:{port}/",
    )


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_service_is_healthy_when_started_and_gone_when_the_block_ends(tmp_path: Path) -> None:
    service = web(tmp_path)
    async with ending([service]):
        await service.start()
        pid = service.pid
        assert pid is not None
        assert running(pid)
    assert not running(pid)
    assert service.pid is None


async def test_a_service_is_ended_when_the_block_is_cancelled(tmp_path: Path) -> None:
    service = web(tmp_path)
    with trio.CancelScope() as scope:
        async with ending([service]):
            await service.start()
            pid = service.pid
            scope.cancel()
            await trio.sleep_forever()
    assert pid is not None
    assert not running(pid)


async def test_services_are_asked_to_end_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    both = trio.Event()
    asked: list[Service] = []

    async def stop(service: Service) -> None:
        asked.append(service)
        if len(asked) == 2:
            both.set()
        with trio.fail_after(5):
            await both.wait()

    monkeypatch.setattr(Service, "stop", stop)
    services = [Service(name=name, command=[], log=Path("log")) for name in ("one", "two")]
    async with ending(services):
        pass
    assert sorted(service.name for service in asked) == ["one", "two"]


async def test_a_killed_service_starts_again_on_the_same_log(tmp_path: Path) -> None:
    service = web(tmp_path)
    async with ending([service]):
        await service.start()
        first = service.pid
        await service.kill()
        await service.start()
        assert service.pid not in (None, first)
    assert tail(service.log).splitlines().count("up") == 2


async def test_a_service_that_exits_fails_with_the_end_of_its_log(tmp_path: Path) -> None:
    service = Service(
        name="broken",
        command=[sys.executable, "-c", "raise SystemExit('no port free')"],
        log=tmp_path / "broken.log",
        health="http://127.0.0.1:1/",
    )
    async with ending([service]):
        with pytest.raises(StepFailed, match="broken exited with status 1") as failed:
            await service.start()
    assert "no port free" in failed.value.evidence


async def test_a_command_gives_its_output_and_takes_standard_input(tmp_path: Path) -> None:
    code = "import sys; sys.stdout.write(sys.stdin.read().upper())"
    assert await run_command([sys.executable, "-c", code], log=tmp_path / "log", stdin=b"ok") == b"OK"


async def test_a_command_that_fails_says_so_with_its_errors(tmp_path: Path) -> None:
    code = "import sys; print('why', file=sys.stderr); sys.exit(3)"
    with pytest.raises(StepFailed, match="status 3") as failed:
        await run_command([sys.executable, "-c", code], log=tmp_path / "log")
    assert failed.value.evidence == "why"


def test_free_ports_are_distinct() -> None:
    assert len(set(free_ports(5))) == 5


def test_the_tail_of_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "none") == ""
