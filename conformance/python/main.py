import importlib
import os
import pathlib
import sys

here = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(here), str(here.parent / "lib")]

import cases  # noqa: E402
import context  # noqa: E402

# One folder of cases a kind of client: redis-py's run twice, in RESP2 and in RESP3.
folder = "queues" if context.CLIENT == "queues" else "client"
for file in sorted((here / folder).glob("test_*.py")):
    importlib.import_module(f"{folder}.{file.stem}")
suite = "queues" if context.CLIENT == "queues" else f"redis-py-{os.environ.get('CLIENT', 'resp3')}"
cases.main(suite, context.make_context, context.finish)
