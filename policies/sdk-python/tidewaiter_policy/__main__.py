"""Makes a component of a policy: `python -m tidewaiter_policy build policy.py -o policy.wasm`.

componentize-py puts CPython, the SDK and the policy into one component, runs the imports once, and keeps the memory as it is then: nothing is imported when a
request comes.
"""

import argparse
import importlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Set

HERE = Path(__file__).parent
INTERFACES = ("cluster", "log", "runtimes", "storage")
#: componentize-py is called as its own script does; without its presence among the packages of the Python that runs this, there is a message.
COMPONENTIZE = "import sys, componentize_py; sys.argv[0] = 'componentize-py'; sys.exit(componentize_py.script())"


def imported(source: Path) -> Set[str]:
    """Runs the policy's module as the component will, and says which interfaces of the contract that imported."""
    from .request import _made

    sys.path.insert(0, str(source.parent))
    importlib.import_module(source.stem)
    if len(_made) != 1:
        raise SystemExit(f"error: {source} makes {len(_made)} policies, and a component is one: decorate one function with @policy")
    return {name for name in INTERFACES if f"{__package__}.{name}" in sys.modules}


def contract(used: Set[str]) -> str:
    """The contract with those imports alone that the policy uses: what isn't imported needs no grant."""
    text = (HERE / "policy.wit").read_text()
    return re.sub(r"^ {4}import ([a-z-]+);\n", lambda found: found[0] if found[1] in used else "", text, flags=re.MULTILINE)


def build(source: Path, output: Path) -> None:
    used = imported(source)
    if subprocess.run([sys.executable, "-c", "import componentize_py"], capture_output=True).returncode != 0:
        raise SystemExit("error: componentize-py is not there, and makes the component; run `pip install 'tidewaiter-policy[build]'`")
    with tempfile.TemporaryDirectory(prefix="tidewaiter-policy-") as folder:
        (Path(folder) / "policy.wit").write_text(contract(used))
        app = f"import {source.stem}\nfrom tidewaiter_policy._component import WitWorld\n"
        (Path(folder) / "tidewaiter_component.py").write_text(app)
        command = [sys.executable, "-c", COMPONENTIZE, "--quiet", "-d", f"{folder}/policy.wit", "-w", "policy"]
        command += ["componentize", "--stub-wasi", "tidewaiter_component", "-o", str(output)]
        # Not the site-packages as a whole: a component holds what is found here, and no more than that.
        for path in (folder, str(source.parent), str(HERE.parent)):
            command += ["-p", path]
        if subprocess.run(command).returncode != 0:
            raise SystemExit("error: componentize-py made no component; what it says stands above")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tidewaiter_policy", description="Makes a component of a policy")
    parser.add_argument("command", choices=["build"])
    parser.add_argument("source", type=Path, help="the policy's module")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the component")
    arguments = parser.parse_args()
    build(arguments.source.resolve(), arguments.output)


if __name__ == "__main__":
    main()
