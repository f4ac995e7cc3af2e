"""Whether a .mar is what TorchServe's own tool makes of the same files.

usage: archive.py ARCHIVE FOLDER
FOLDER has net.pt, net.py and handler.py; the tool's archive is made beside them.
"""

import json
import os
import sys
import zipfile

from model_archiver.model_packaging import generate_model_archive

ours, folder = sys.argv[1:]
made = os.path.join(folder, "made")
os.makedirs(made)
sys.argv = [
    "torch-model-archiver",
    "--model-name=net",
    "--version=1.0",
    f"--serialized-file={folder}/net.pt",
    f"--model-file={folder}/net.py",
    f"--handler={folder}/handler.py",
    f"--export-path={made}",
]
generate_model_archive()


def content(path):
    """Every file of an archive, and its manifest as TorchServe reads it."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    manifest = json.loads(files.pop("MAR-INF/MANIFEST.json"))
    manifest.pop("createdOn", None)
    return files, manifest


files, manifest = content(ours)
wanted, wanted_manifest = content(os.path.join(made, "net.mar"))
assert files == wanted, f"{sorted(files)} and the tool's {sorted(wanted)}"
assert manifest == wanted_manifest, f"{manifest} and the tool's {wanted_manifest}"
