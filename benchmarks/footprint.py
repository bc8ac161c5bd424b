"""What a device pays: seconds to import and load, and memory with the int8 student ready to embed.

    python -m benchmarks.footprint build/demo/student.attar --variant int8

Every figure is from a process of its own, started RUNS times; the median is printed.
"""

import argparse
import json
import statistics
import subprocess
import sys

RUNS = 7

CHILD = """
import json, resource, sys, time
def rss():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024
bare, start = rss(), time.perf_counter()
import attar
imported, at_import = time.perf_counter(), rss()
encoder = attar.load(sys.argv[1], variant=sys.argv[2], threads=1)
loaded, at_load = time.perf_counter(), rss()
encoder.embed(["a first text"])
first, at_first = time.perf_counter(), rss()
print(json.dumps({
    "import_s": imported - start, "load_s": loaded - imported, "first_embed_s": first - loaded,
    "rss_bare_mib": bare, "rss_import_mib": at_import, "rss_load_mib": at_load,
    "rss_embed_mib": at_first,
    "rss_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def main() -> None:
    """Print the medians as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--variant", default="int8")
    arguments = parser.parse_args()
    command = [sys.executable, "-c", CHILD, arguments.bundle, arguments.variant]
    runs = [
        json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        for _ in range(RUNS)
    ]
    medians = {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
    print(json.dumps({"runs": RUNS, "variant": arguments.variant, **medians}, indent=2))


if __name__ == "__main__":
    main()
