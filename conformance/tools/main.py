import importlib
import pathlib
import sys

here = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(here), str(here.parent / "lib")]

import cases as registered  # noqa: E402
import context  # noqa: E402

for file in sorted((here / "programs").glob("test_*.py")):
    importlib.import_module(f"programs.{file.stem}")
registered.main("tools", context.make_context, context.finish)
