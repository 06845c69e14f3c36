"""nginx as the benchmark's yardstick: one worker, nothing buffered, nothing logged, connections to the upstream kept alive."""

import os
import shutil
from pathlib import Path

TEMPLATE = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
{user}
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  tcp_nodelay on;
  keepalive_requests 1000000;
  upstream provider {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 20m;
    location / {{
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 1h;
    }}
  }}
}}
"""


def find() -> str | None:
    """Return the path of the nginx program, or None; Debian keeps it where only root's PATH looks."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/local/nginx/sbin")


def config(folder: Path, port: int, upstream: int) -> str:
    """Return the configuration that serves 127.0.0.1:`port` from 127.0.0.1:`upstream`, with every file of its own in `folder`."""
    user = "user root;" if os.geteuid() == 0 else ""  # its worker must reach a folder that only its owner can read
    return TEMPLATE.format(folder=folder, port=port, upstream=upstream, user=user)


def command(program: str, folder: Path, port: int, upstream: int) -> list[str]:
    """Write the configuration into `folder` and return the command that runs nginx on it in the foreground."""
    path = folder / "nginx.conf"
    path.write_text(config(folder, port, upstream))
    return [program, "-p", str(folder), "-c", str(path), "-e", str(folder / "error.log")]
