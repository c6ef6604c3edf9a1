"""A tiny program in the place of `kd-privacy fit`; it copies tables that the test has prepared.

It needs the standard library alone, so that it starts at once. The environment chooses:
`FAKE_TABLES` (folder with one folder of tables per run name), `FAKE_SECONDS` (between checkpoint
and results), `FAKE_FAIL` (the role whose cell fails).
"""

import os
import shutil
import sys
import time
from pathlib import Path


def main() -> int:
    """Does what a fit does to its folder."""
    arguments = sys.argv[2:]
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    run_dir = Path(options["--run_dir"])
    name, role = options["--run.name"], options["--run.role"]
    checkpoint = run_dir / "checkpoints" / "last.ckpt"
    resumed = options.get("--ckpt_path") == "last"
    sys.stdout.write(f"fake cell {name}, threads {os.environ['OMP_NUM_THREADS']}\n")
    sys.stdout.flush()
    if resumed != checkpoint.is_file() or (not resumed and (run_dir / "config.yaml").exists()):
        raise RuntimeError("resumed without a checkpoint, or started anew in a used folder")
    (run_dir / "config.yaml").write_text("{}")
    if os.environ.get("FAKE_FAIL") == role:
        sys.stdout.write("boom: planted failure\n")
        return 3
    checkpoint.parent.mkdir(exist_ok=True)
    checkpoint.write_text("step 7")
    time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
    teacher = options.get("--model.teacher")
    if teacher and not (Path(teacher) / "model.txt").is_file():
        raise FileNotFoundError(teacher)
    for table in (Path(os.environ["FAKE_TABLES"]) / name).glob("*.parquet"):
        shutil.copy(table, run_dir)
    (run_dir / "export").mkdir(exist_ok=True)
    (run_dir / "export" / "model.txt").write_text(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
