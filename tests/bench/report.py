"""The table: report.py markdown|json RESULTS SECONDS QUICK; RESULTS has a JSON object a line."""
import json
import os
import platform
import sys


def main():
    form, path, seconds, quick = sys.argv[1:]
    rows = [json.loads(line) for line in open(path)]
    about = {"kernel": platform.release(), "machine": platform.machine(), "cpus": os.cpu_count(), "seconds": int(seconds), "quick": quick == "yes"}
    if form == "json":
        print(json.dumps({**about, "rows": rows, "missed": [r["what"] for r in rows if r["met"] == "no"]}, indent=1))
        return
    print("| part | what | figure | floor | bar | met |")
    print("|---|---|---|---|---|---|")
    for r in rows:
        print("| " + " | ".join(r[k].replace("|", "\\|") for k in ("part", "what", "figure", "floor", "bar", "met")) + " |")


if __name__ == "__main__":
    main()
