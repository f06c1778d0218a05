"""What tests of installing share: the parts of the lock, and an environment with a part of what is installed here."""

import re
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def locked(title):
    """The names of the packages in a part of the lock."""
    parts = re.split(r"^# (.+)\n", (ROOT / "requirements.lock").read_text("utf-8"), flags=re.MULTILINE)
    return re.findall(r"^([a-z0-9-]+)==", dict(zip(parts[1::2], parts[2::2], strict=True))[title], re.MULTILINE)


def make_environment(folder, names):
    """A virtual environment that has these packages, as they are installed here, and no other; its site-packages.

    They are linked: nothing is fetched. What is for another platform is not here, and not there.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    for source in sorted({source for name in names for source in _tops(name)}):
        (site / source.name).symlink_to(source)
    return site


def _tops(name):
    """What an installed package has put at the top of site-packages."""
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        return
    for file in installed.files:
        top = file.parts[0]
        if top not in {"..", "__pycache__"}:
            yield Path(installed.locate_file(top))
