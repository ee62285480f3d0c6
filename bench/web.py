"""nginx as a web seed: what it is started with, for one folder on one address of the loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.tools import START_TIMEOUT_S, ToolError

CONFIGURATION = """
{user} daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off; sendfile on; tcp_nodelay on; keepalive_requests 100000;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    server {{ listen {address}; root {root}; }}
}}
"""


def missing() -> str | None:
    """Why nginx cannot be started here, or None."""
    return None if shutil.which("nginx") else "nginx is not installed"


@contextmanager
def nginx(root: Path, folder: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """Serves the files in `root`; gives its address. `folder`: for its own files. Raises ToolError."""
    if reason := missing():
        raise ToolError(reason)
    with socket.create_server((host, 0)) as sock:
        address = f"{host}:{sock.getsockname()[1]}"
    folder.mkdir(exist_ok=True)
    settings = folder / "nginx.conf"
    user = "user root;" if os.getuid() == 0 else ""  # another one could not look into temporary folders
    settings.write_text(CONFIGURATION.format(user=user, folder=folder, address=address, root=root))
    process = subprocess.Popen(["nginx", "-c", str(settings), "-e", str(folder / "error.log")])
    try:
        _wait(process, address)
        yield address
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], address: str) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ToolError(f"nginx did not start (exit code {process.poll()})") from None
            time.sleep(0.01)
        else:
            return
