"""The examples of grammar/README.md and README.md."""
import os
import re

from common import ROOT


def blocks(name="grammar/README.md"):
    path = os.path.join(ROOT, name)
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return re.findall(r"^```mesh\n(.*?)^```$", file.read(), re.M | re.S)
