"""What pyproject.toml cannot say: a wheel carries the book's pages. An editable install reads those of the checkout."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PAGES = ("_toc.yml", "_config.yml", "book")
"""What a book is made of, in the checkout's root; MANIFEST.in puts the same into the source distribution."""


class BuildWithPages(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "quantcliff", "book", "pages")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in PAGES:
            if Path(name).is_dir():
                shutil.copytree(name, target / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copy(name, target)


setup(cmdclass={"build_py": BuildWithPages})
