"""Runs the lessons where learners are, in environments of their own; on Linux, with `unshare` and `ip`:

    python tools/places.py colab [LESSON …]    Colab's versions, the package from a server on this machine, no libGL
    python tools/places.py kit [LESSON …]      from the folder of `make offline-kit` alone, without a network

`make offline-kit` comes first; Python 3.13 has to be there as python3.13. The table is kept in build/places.
"""

import functools
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from datetime import datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "places"
ADDRESS = re.search(r'Repository = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
#: Runs what follows with the system's libGL replaced by an empty file, for it and its children alone.
WITHOUT_LIBGL = ["unshare", "--map-root-user", "--mount", "sh", "-c", """
for library in $(ldconfig -p | sed -n 's,.*=> \\(.*/libGL[.]so.*\\),\\1,p'); do mount --bind /dev/null "$library"; done
exec "$@"
""", "sh"]  # fmt: skip
#: Loopback stays, as in any machine: Jupyter's kernels are reached through it.
WITHOUT_NETWORK = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def run(*command, **more):
    """Run a command that has to succeed, and give back what it prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def serve(folder):
    """Serve a folder on this machine; gives back the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(SimpleHTTPRequestHandler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def seconds(cell):
    """How long a cell of an executed notebook took."""
    times = cell.metadata.execution
    begun, ended = (
        datetime.fromisoformat(times[key].replace("Z", "+00:00"))
        for key in ("iopub.execute_input", "shell.execute_reply")
    )
    return (ended - begun).total_seconds()


def colab(lessons):
    """Each lesson from its setup cell on, where Colab's packages are installed and ours are not."""
    folder = OUT / "colab"
    run("python3.13", "-m", "venv", folder / "venv")
    python, pip = folder / "venv/bin/python", [folder / "venv/bin/python", "-m", "pip"]
    run(*pip, "install", "--quiet", "-r", ROOT / "tests/constraints/colab.txt")
    before = set(run(*pip, "freeze").splitlines())
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "wheels", ROOT)
    (wheel,) = (folder / "wheels").glob("pcam_utils-*.whl")
    address = f"{serve(wheel.parent)}/{wheel.name}"
    rows = ["| lesson | setup, seconds | whole lesson | added |", "|---|---|---|---|"]
    for lesson in lessons:
        copy = folder / lesson.name
        copy.write_text(lesson.read_text(encoding="utf-8").replace(f"git+{ADDRESS}", address), encoding="utf-8")
        run(*WITHOUT_LIBGL, python, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", copy, cwd=folder)
        cells = [cell for cell in nbformat.read(copy, as_version=4).cells if cell.cell_type == "code"]
        setup = next(i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", []))
        took = [seconds(cell) for cell in cells]
        after = set(run(*pip, "freeze").splitlines())
        assert before <= after, f"{lesson.name} changed {', '.join(before - after)}"
        added = sorted(re.split(" @ |==", line)[0] for line in after - before)
        rows.append(f"| {lesson.stem[:2]} | {sum(took[:setup]):.0f} | {sum(took):.0f} | {', '.join(added)} |")
        print(rows[-1], flush=True)
        run(*pip, "uninstall", "--quiet", "--yes", *added)  # on Colab, the next lesson is another machine
    return rows


def kit(lessons):
    """The lessons out of the kit's folder, installed and run with the network cut off."""
    folder = OUT / "kit"
    shutil.copytree(ROOT / "build/offline-kit", folder, dirs_exist_ok=True)
    commands = re.search(r"```sh\n(.+?)```", (folder / "README.md").read_text(encoding="utf-8"), re.S)[1]
    install = commands[: commands.index("jupyter lab")]
    chosen = " ".join(f"--lesson {lesson.name[:2]}" for lesson in lessons)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")} | {
        "PIP_CONFIG_FILE": os.devnull
    }
    run(
        *WITHOUT_NETWORK,
        "bash",
        "-ec",
        f"{install} pcam course data/sample --out course {chosen}",
        cwd=folder,
        env=environment,
    )
    return (folder / "course/times.csv").read_text().splitlines()


def main(place, *numbers):
    shutil.rmtree(OUT / place, ignore_errors=True)
    (OUT / place).mkdir(parents=True)
    lessons = [
        lesson for lesson in sorted(ROOT.glob("notebooks/[01]*.ipynb")) if not numbers or lesson.name[:2] in numbers
    ]
    begun = time.monotonic()
    rows = {"colab": colab, "kit": kit}[place](lessons)
    rows.append(f"{(time.monotonic() - begun) / 60:.1f} minutes")
    (OUT / place / "results.md").write_text("\n".join(rows) + "\n")
    print(*rows, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
