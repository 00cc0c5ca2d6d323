"""A container's stand-in for tests: standard library only, starts in some 20 ms.

python tiny_server.py [--listen HOST:PORT] [--ready-file FILE] [--say TEXT] [--exit CODE] [--deaf] [--brood FILE]

Answers `GET /health` with 200, `GET /ready` with 200 too, or with --ready-file while that file exists, else 503, and
`GET /about` with its arguments and environment as JSON. --exit ends at once; --deaf ignores SIGTERM; --brood starts a
child that ignores SIGTERM and writes its id into FILE.
"""

import json
import os
import signal
import socket
import subprocess
import sys


def option(name: str) -> str | None:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None


def answer(path: str) -> tuple[int, str]:
    if path == "/about":
        return 200, json.dumps({"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd()})
    ready_file = option("--ready-file")
    is_well = path == "/health" or ready_file is None or os.path.exists(ready_file)
    return (200, "ok") if is_well else (503, "no")


def serve(host: str, port: int) -> None:
    with socket.create_server((host, port), backlog=64) as server:
        while True:
            client, _ = server.accept()
            with client:
                request = client.recv(4096).decode()
                if not request:
                    continue
                status, body = answer(request.split()[1])
                head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                client.sendall((head + body).encode())


if __name__ == "__main__":
    if "--deaf" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if (text := option("--say")) is not None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    if (file := option("--brood")) is not None:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "import signal; signal.signal(15, 1); signal.pause()"]
        )
        with open(file + ".new", "w") as written:
            written.write(str(child.pid))
        os.replace(file + ".new", file)
    if (code := option("--exit")) is not None:
        sys.exit(int(code))
    where = option("--listen")
    if where is None:
        while True:
            signal.pause()
    host, _, port = where.rpartition(":")
    serve(host, int(port))
