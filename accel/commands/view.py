"""``accel view``: open a report, or serve it to a browser on this computer only."""

import argparse
import sys
import webbrowser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from accel.errors import UserError

HELP = "open a report in the browser, or serve it on this computer"
EXAMPLES = ("accel view", "accel view report", "accel view report --serve --port 8080")
LOOPBACK = "127.0.0.1"
HIGHEST_PORT = 65535
SERVED = (".html", ".md", ".json", ".svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("report", nargs="?", default="report", metavar="FILE|DIR", help="the page or its folder")
    parser.add_argument("--serve", action="store_true", help=f"serve the page's folder on {LOOPBACK} until Ctrl-C")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port to serve on; 0 takes a free one")


def run(args: argparse.Namespace) -> None:
    """Open or serve."""
    page = page_of(Path(args.report))
    if not 0 <= args.port <= HIGHEST_PORT:
        raise UserError(f"--port {args.port}: must be 0 to {HIGHEST_PORT}")
    if args.port and not args.serve:
        raise UserError("--port is for --serve")
    if args.serve:
        with server(page.parent, args.port) as serving:
            print(f"http://{LOOPBACK}:{serving.server_port}/{page.name}  (Ctrl-C ends it)", flush=True)
            serving.serve_forever()
        return
    address = page.resolve().as_uri()
    if not webbrowser.open(address):
        print("no browser could be started here; open this address, or use --serve", file=sys.stderr)
    print(address)


def page_of(path: Path) -> Path:
    """The page meant by a file or a folder.

    Raises:
        UserError: there is none.
    """
    page = path / "index.html" if path.is_dir() else path
    if not page.is_file():
        raise UserError(f"{path}: no page there; 'accel report ... -o {path}' writes one")
    if page.suffix != ".html":
        raise UserError(f"{page}: not a page; name the folder or its index.html")
    return page


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of the report's files in a folder, reachable from this computer only.

    Raises:
        UserError: the port is taken or not allowed.
    """

    class Handler(_Handler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(folder))

    try:
        return ThreadingHTTPServer((LOOPBACK, port), Handler)
    except OSError as error:
        raise UserError(f"--port {port}: cannot be used ({error.strerror or error})") from error


class _Handler(SimpleHTTPRequestHandler):
    """Files of a report, no listings; only to pages that asked for this computer by name or address."""

    def send_head(self) -> Any:
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        if host not in (LOOPBACK, "localhost"):  # another name that points here is another site's trick
            self.send_error(403)
            return None
        path = Path(self.translate_path(self.path))
        folder = Path(self.directory).resolve()
        if path.is_dir():
            path /= "index.html"
        if path.suffix not in SERVED or not path.resolve().is_relative_to(folder) or not path.is_file():
            self.send_error(404)
            return None
        return super().send_head()

    def end_headers(self) -> None:
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, *unused: Any) -> None:
        """Quiet."""
