"""Write the measured claims into the pages, each from its file in benchmarks/results."""

import argparse
import json
import math
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
RESULTS = ROOT / "benchmarks" / "results"
MARKED = re.compile(
    r"(?P<begin><!-- claim: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end of claim -->)",
    re.DOTALL,
)
FOUND = ("recall_at_1", "recall_at_10", "mrr")
ENCODERS = MappingProxyType(
    {
        "teacher": "all-MiniLM-L6-v2, the teacher",
        "adapted": "the teacher, adapted",
        "student": "its student of two layers",
        "static": "its static student, a table of tokens",
    }
)
DETECTORS = MappingProxyType({"knn": "kNN, the server's", "mahalanobis": "Mahalanobis"})

SETTING = re.compile(r"(\S+) is (.+), in the paper (.+)")  # one of `Recipe.departures`
PROBES = ("scarce", "knn", "linear")  # of digits, as the recipes call them
LONG = 1024  # tokens from which the native operator had to be worth its library

Report = Mapping[str, Any]


def demo(report: Report) -> str:
    """Describe the demo's encoders and their quality."""
    corpus, machine = report["corpus"], report["machine"]
    sentence = (
        f"Measured by `make demo`, {report['seconds']['total'] / 60:.1f} minutes and "
        f"{report['cpu_seconds']['total'] / 60:.1f} minutes of processor time on "
        f"{machine['cores']} cores ({machine['cpu']}, {machine['instruction_set']}). The encoders "
        f"learn from {corpus['documents'] - corpus['held_out']:,} docstrings without a label, and "
        f"{corpus['held_out']} other summaries must find their bodies, cut at {corpus['words']} "
        f"words, among {corpus['searched']:,}. It is one run at one seed. A second is of one "
        "thread's time:"
    )
    return f"{fill(sentence)}\n\n{demo_encoders(report)}"


def demo_encoders(report: Report) -> str:
    """Show the encoders of the demo."""
    return table(
        ("encoder", "recall@1", "recall@10", "MRR", "variant", "size", "texts a second"),
        [
            (
                label,
                *(
                    f"{report[name][metric]:.3f}"
                    for metric in ("recall_at_1", "recall_at_10", "mrr")
                ),
                report[name]["variant"],
                f"{report[name]['bytes'] / 1e6:.1f} MB",
                f"{report[name]['texts_per_second']:,.0f}",
            )
            for name, label in ENCODERS.items()
        ],
    )


def demo_variants(report: Report) -> str:
    """Show the variants of the bundles that the demo exports."""
    return table(
        (
            *("encoder", "variant", "recall@10", "cosine, mean", "cosine, worst", "size"),
            "a text, one thread",
        ),
        [
            (
                ENCODERS[encoder],
                name,
                f"{variant['recall_at_10']:.3f}",
                f"{variant['cosine_mean']:.4f}",
                f"{variant['cosine_worst']:.4f}",
                f"{variant['bytes'] / 1e6:.1f} MB",
                f"{variant['p50_ms']:.2f} ms",
            )
            for encoder, variants in report["variants"].items()
            for name, variant in variants.items()
        ],
    )


def demo_anomalies(report: Report) -> str:
    """Compare the detectors of the demo, and the alarms that they raise with those requested."""
    anomaly = report["anomaly"]
    requested = [row["requested"] for row in anomaly["adapted"]["knn"]["thresholds"]]
    sentence = (
        f"Of {anomaly['ordinary']} held-out docstrings and {anomaly['foreign']} paragraphs of the "
        "licences of installed packages, those whose p-value is at most a rate are flagged. The "
        "detectors are fitted on other docstrings. Each cell has the share of docstrings that "
        "is flagged, which should be the rate, and that of the foreign paragraphs:"
    )
    rows = [
        (
            label,
            ENCODERS[encoder],
            f"{anomaly[encoder][name]['auroc']:.3f}",
            *(
                f"{threshold['false_alarms']:.1%}, {threshold['detected']:.1%}"
                for threshold in anomaly[encoder][name]["thresholds"]
            ),
        )
        for encoder in ("adapted", "student")
        for name, label in DETECTORS.items()
    ]
    header = ("detector", "encoder", "AUROC", *(f"at {rate:.0%}" for rate in requested))
    return f"{fill(sentence)}\n\n{table(header, rows)}"


def demo_tasks(report: Report) -> str:
    """Give the quality of the demo's server on its tasks."""
    classes = report["classify"]
    return fill(
        "In the demo, the package of a docstring is predicted with an accuracy of "
        f"{classes['accuracy']:.3f}, where the most frequent package alone gives "
        f"{classes['majority']:.3f}; and the vectors that came over gRPC differ from the device "
        f"runtime's by at most {report['parity']['max_abs_difference']:.1e}."
    )


def distillation_curve(report: Report) -> str:
    """Show the quality of the demo's student after so many minutes of training."""
    teacher = report["teacher"]["recall_at_10"]
    curve = sorted(report["curve"], key=lambda point: point["steps"])
    return table(
        ("steps", "minutes of training", "recall@1", "recall@10", "of the teacher's"),
        [
            (
                f"{point['steps']:,}",
                f"{point['cpu_minutes_per_thread']:.1f}",
                f"{point['recall_at_1']:.3f}",
                f"{point['recall_at_10']:.3f}",
                f"{point['recall_at_10'] / teacher:.1%}",
            )
            for point in curve
        ],
    )


def triton(report: Report) -> str:
    """Give the difference between a real tritonserver's embeddings and attar's."""
    layouts = report["layouts"].values()
    sizes = sorted({batch["texts"] for layout in layouts for batch in layout["batches"]})
    shared = max(layouts, key=lambda layout: layout["concurrent"]["executions"])["concurrent"]
    shortest, longest = report["layouts"]["cpu"]["tokens"]
    # Rounded up to two digits: "at most" has to stay true.
    power = math.floor(math.log10(report["worst_difference"]))
    worst = math.ceil(report["worst_difference"] / 10.0 ** (power - 1)) / 10
    return fill(
        f"Triton {report['versions']['triton']} on {report['machine']['cores']} cores "
        f"({report['machine']['cpu']}): over batches of {sizes[0]} to {sizes[-1]} texts of "
        f"{shortest} to {longest} tokens, and texts sent one by one from {shared['callers']} "
        f"callers in parallel, every number of an embedding is within **{worst}e{power}** of "
        f"`attar.load`'s (limit: {report['tolerance']:.0e}). "
        f"{shared['requests']} of these ragged requests shared {shared['executions']} executions."
    )


def attention(report: Report) -> str:
    """Show the milliseconds of each attention by length, and how much faster binarized ones are."""
    suffix = {"native": "_native"}
    rows = [(row["variant"] + suffix.get(row.get("operators"), ""), row) for row in report["rows"]]
    names = list(dict.fromkeys(name for name, _ in rows))
    took = {(name, row["length"]): row["p50_ms"] for name, row in rows}
    gains = report["summary"]["times_faster_than_softmax_fp32"]
    best = [name for name in ("binarized_int8", "binarized_int8_native") if name in gains]
    return table(
        ("tokens", *(f"{name}, ms" for name in names), *(f"{name} is faster by" for name in best)),
        [
            (
                f"{length:,}",
                *(f"{took[name, length]:,.1f}" for name in names),
                *(f"{gains[name][str(length)]:.1f}x" for name in best),
            )
            for length in sorted({row["length"] for row in report["rows"]})
        ],
    )


def binarized_quality(report: Report) -> str:
    """Show the accuracy that binarized attention loses against softmax, in percentage points."""

    def points(lost: Mapping[str, float]) -> str:
        return f"{lost['mean'] * 100:+.1f} ({lost['low'] * 100:+.1f} to {lost['high'] * 100:+.1f})"

    return table(
        (
            "data, tokens, test rows",
            "attention",
            "precision",
            "kNN",
            "linear",
            "kNN lost, points",
            "linear lost, points",
            "kNN, linear before distillation",
        ),
        [
            (
                f"{row['data']}, {row['length']:,}, {row['test_rows']:,}",
                row["attention"] + (f", {row['bits']} bits" if row["bits"] else ""),
                row["precision"],
                f"{row['knn']:.1%}",
                f"{row['linear']:.1%}",
                points(row["knn_lost"]),
                points(row["linear_lost"]),
                "{knn:.1%}, {linear:.1%}".format(**row["before_distillation"])
                if "before_distillation" in row
                else "",
            )
            for row in report["rows"]
        ],
    )


def native(report: Report) -> str:
    """Give the speed-up of the native operator over standard ones, for attention alone."""
    took = {(row["operators"], row["length"]): row["p50_ms"] for row in report["alone"]}
    lengths = sorted({length for _, length in took if length >= LONG})
    gains = [took["standard", length] / took["native", length] for length in lengths]
    return fill(
        f"By itself, without projections, one layer of it is {min(gains):.1f} to {max(gains):.1f} "
        f"times as fast as in standard operators at {lengths[0]:,} to {lengths[-1]:,} tokens "
        f"({report['machine']['cpu']}, {report['machine']['instruction_set']}, one thread)."
    )


def minilm(report: Report) -> str:
    """Show one model in several engines; an engine that could not run has no row."""
    return table(
        ("all-MiniLM-L6-v2 by", "precision", "threads", "texts/s", "STS-B", "cosine, worst"),
        [
            (
                row["engine"],
                row["precision"],
                str(row["threads"]),
                f"{row['sentences_per_second']:.0f}",
                f"{row['sts_spearman']:.4f}",
                f"{row['cosine_worst']:.4f}",
            )
            for row in report["rows"]
            if "why_not" not in row
        ],
    )


def imagenet(report: Report) -> str:
    """Show a real image encoder in each precision."""
    return table(
        ("EfficientNet-Lite0", "top-1", "top-5", "cosine, worst", "size", "images/s, one thread"),
        [
            (
                row["variant"],
                f"{row['top1']:.1%}",
                f"{row['top5']:.1%}",
                f"{row['cosine_worst']:.4f}" if "cosine_worst" in row else "",
                f"{row['bytes'] / 1e6:.1f} MB" if "bytes" in row else "",
                f"{row['images_per_second']:.0f}" if "images_per_second" in row else "",
            )
            for row in report["rows"]
        ],
    )


def overhead(report: Report) -> str:
    """Compare the server's CPU time with that of ONNX Runtime alone."""
    return table(
        ("model", "variant", "texts a request", "server, ms a text", "raw, ms a text", "ratio"),
        [
            (
                row["model"],
                row["variant"],
                str(row["texts_per_request"]),
                f"{row['server_cpu_s_per_1000']:.2f}",
                f"{row['raw_cpu_s_per_1000']:.2f}",
                f"{row['ratio']:.2f}",
            )
            for row in report["rows"]
        ],
    )


def rivals(report: Report) -> str:
    """Show each server at every number of clients, and at 70 % of its own best rate."""
    rows: dict[tuple[str, str], list[Report]] = {}
    for row in report["rows"]:
        if "why_not" not in row:
            rows.setdefault((f"{row['server']} {row['version']}", row["runs"]), []).append(row)
    closed = {name: [row for row in of if row["loop"] == "closed"] for name, of in rows.items()}
    clients = [row["clients"] for row in next(iter(closed.values()))]
    return table(
        (
            "server",
            "runs",
            *(f"{count} client{'s' * (count > 1)}: texts/s, p99" for count in clients),
            "70 % of its best: texts/s, p50, p99",
            "padding",
            "memory, MB",
            "cosine, worst",
        ),
        [
            (
                *name,
                *(_loaded(row, "p99_ms") for row in closed[name]),
                _loaded(of[-1], "p50_ms", "p99_ms"),
                "unknown" if of[-1]["padding_ratio"] is None else f"{of[-1]['padding_ratio']:.0%}",
                f"{max(row['rss_mb'] for row in of):.0f}",
                f"{of[-1]['cosine_worst']:.4f}",
            )
            for name, of in rows.items()
        ],
    )


def rivals_best(report: Report) -> str:
    """Give the texts a second of each server at its best number of clients."""
    best: dict[str, float] = {}
    for row in report["rows"]:
        if row.get("loop") == "closed":
            name = row["server"].removesuffix(", gRPC").removesuffix(", HTTP")
            if name == "attar":
                name = row["runs"].replace("its bundle", "attar")
            name = name.replace(", ", " ")
            best[name] = max(best.get(name, 0.0), row["requests_per_second"])
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in best.items())
    machine = report["machine"]
    return fill(
        f"all-MiniLM-L6-v2 on {report['threads']} of {machine['cores']} cores ({machine['cpu']}), "
        f"texts of 16 to 256 tokens, one a request, texts a second at the best number of clients: "
        f"{rates}."
    )


def search(report: Report) -> str:
    """Show searches and inserts a second, with and without a filter."""
    return table(
        ("engine", "filter", "queries/s", "recall@10", "inserts/s"),
        [
            (
                row["engine"],
                row["filter"],
                f"{row['queries_per_second']:,.0f}",
                f"{row['recall_at_10']:.3f}",
                f"{row['inserts_per_second']:,.0f}" if "inserts_per_second" in row else "",
            )
            for row in report["rows"]
        ],
    )


def searchable(report: Report) -> str:
    """Give the delay until a point is searchable, and search times while the index is built."""
    fresh, building = report["acknowledged_to_searchable"], report["while_the_index_is_built"]
    return fill(
        f"{fresh['points']} points were written one by one, and each searched for once it was "
        f"acknowledged: {fresh['searches_until_found']} searches found them, "
        f"{fresh['p50_ms']:.1f} ms after the acknowledgement (p50; p99 {fresh['p99_ms']:.1f} ms). "
        f"While the index over {report['points']:,} points was built, in "
        f"{building['seconds']:.0f} s, {building['searches_answered']} searches were answered, "
        f"p50 {building['search_p50_ms']:.0f} ms, p99 {building['search_p99_ms']:.0f} ms."
    )


def retrieval(report: Report) -> str:
    """Compare the rankings by embeddings, by words and by both, on judged queries."""
    rows = [
        (
            f"{row['corpus']}, {row['search']}",
            _with_limits(_limits_of(row["ndcg_at_10"])),
            "" if row["search"] == "dense" else _with_limits(_limits_of(row["over_dense"])),
            f"{row['ms']:.0f}",
        )
        for row in report["rows"]
    ]
    return table(("search", "nDCG@10", "over dense", "ms a query"), rows)


def _limits_of(interval: Report) -> Report:
    return {"value": interval["mean"], "low": interval["low"], "high": interval["high"]}


def detectors(report: Report) -> str:
    """Compare detectors by cosine and by Euclidean distance on tables."""
    tables = report["tables"]

    def of(name: str, metric: str, figure: str) -> str:
        seen = tables[name][metric][figure]
        return f"{seen['mean']:.3f} ± {(seen['high'] - seen['low']) / 2:.3f}"

    shown = table(
        (
            "AUROC",
            "cosine",
            "Euclidean",
            "scikit-learn, Euclidean",
            "false alarm rate",
            "AUROC, fitted on all rows",
        ),
        [
            (
                name,
                of(name, "cosine", "auroc"),
                of(name, "euclidean", "auroc"),
                of(name, "euclidean", "auroc_scikit_learn"),
                of(name, "euclidean", "false_alarms"),
                of(name, "euclidean", "auroc_contaminated"),
            )
            for name in tables
        ],
    )
    text = fill(
        f"Tables of ADBench, columns standardised, {report['neighbours']} neighbours, fitted on "
        f"half of the normal rows with target_fpr {report['target_fpr']}; means of "
        f"{report['seeds']} draws with 95 % intervals by Student's t. The last two columns are of "
        "Euclidean detectors: the share of other normal rows that are called anomalies, and the "
        "AUROC when the rows of the fit had anomalies among them."
    )
    return f"{shown}\n\n{text}"


def classifiers(report: Report) -> str:
    """Compare classifiers by the strength of their penalty."""
    names = {"attar": "attar"} | {
        name: f"scikit-learn, {name}" for name in report["classifiers"] if name != "attar"
    }

    def of(name: str, figure: str) -> str:
        seen = report["classifiers"][name].get(figure)
        return f"{seen['mean']:.3f} ± {(seen['high'] - seen['low']) / 2:.3f}" if seen else ""

    figures = ("accuracy", "told", "confidence", "elsewhere", "out_of_scope")
    shown = table(
        (
            "classifier",
            "accuracy",
            "mean recall that the fit reports",
            "mean highest probability",
            "the same, out of scope",
            "AUROC between them",
        ),
        [(label, *(of(name, figure) for figure in figures)) for name, label in names.items()],
    )
    text = fill(
        f"CLINC150, 150 intents, {report['shots']} texts each, by all-MiniLM-L6-v2; means of "
        f"{report['seeds']} draws with 95 % intervals by Student's t. Probabilities are not "
        "calibrated."
    )
    return f"{shown}\n\n{text}"


def durability(report: Report) -> str:
    """Give the rates of upserts that are synced to disk and of those that are only written."""
    one, many = report["rows"]
    return fill(
        f"Upserts of one point a second, medians of {report['turns']} turns on "
        f"{report['machine']['cores']} cores ({report['machine']['cpu']}) with a load of "
        f"{report['load_average']:g}: {one['callers']} caller {one['synced_per_s']:.0f} synced and "
        f"{one['written_per_s']:.0f} written, {many['callers']} callers {many['synced_per_s']:.0f} "
        f"and {many['written_per_s']:.0f} ({many['ratio']:.0%})."
    )


def faults(report: Report) -> str:
    """Count the requests of every fault by their outcome."""
    return table(
        ("fault", "requests", "answered", "wrong", "lost", "result"),
        [
            (
                row["fault"],
                *(f"{row[key]:,}" for key in ("requests", "answered", "wrong", "lost")),
                row["note"].replace("|", "/"),
            )
            for row in report["rows"]
        ],
    )


def workers(report: Report) -> str:
    """Show the rates with one and with two worker processes."""
    return table(
        ("model", "workers", "texts/s", "p50, ms", "p99, ms", "memory, MB"),
        [
            (
                f"{row['model']}, {row['variant']}",
                str(row["workers"]),
                f"{row['requests_per_second']:.0f}",
                f"{row['p50_ms']:.0f}",
                f"{row['p99_ms']:.0f}",
                f"{row['rss_mb']:.0f}",
            )
            for row in report["rows"]
        ],
    )


def memory(report: Report) -> str:
    """Give a server's start time, its memory, and the growth of that under load."""
    requests = report["requests"]
    return fill(
        f"{report['model']} on {report['threads']} of {report['machine']['cores']} cores "
        f"({report['machine']['cpu']}): ready {report['ready_s']:.2f} s after its start, "
        f"{report['rss_after_load_mb']:.0f} MB resident, "
        f"{report['rss_after_warm_up_mb']:.0f} MB once warm. In {report['minutes']:.0f} minutes of "
        f"full load, {sum(requests.values()):,} requests from {report['clients']} clients that "
        f"come and go, memory went from {report['second_fifth_mb']:.0f} MB (mean of the second "
        f"fifth) to {report['last_fifth_mb']:.0f} MB (the last), at most "
        f"{report['peak_mb']:.0f} MB."
    )


def burst_memory(report: Report) -> str:
    """Show a server's memory before, during and after bursts of large requests."""
    header = (
        "burst of 4 parallel calls",
        "before, MB",
        "peak, MB",
        "at the end, MB",
        "settled, MB",
    )
    return table(
        header,
        [
            (
                row["burst"],
                *(f"{row[name]:.0f}" for name in ("before_mb", "peak_mb")),
                *(f"{row[name]:.0f}" for name in ("at_its_end_mb", "after_mb")),
            )
            for row in report["rows"]
        ],
    )


def recipes(report: Report) -> str:
    """List the recipes and whether their claims hold, then each claim with its figures."""
    rows = [
        f"| [{row['recipe']}](#{row['recipe'].replace('/', '')}) | {row['paper']} | "
        f"{_verdict(row)} | {_least_effect(row)} |"
        for row in report["rows"]
    ]
    header = "| recipe | paper | claim | least effect, 95 % interval |", "| --- | --- | --- | --- |"
    listed = "\n".join((*header, *rows))
    held = sum(row.get("holds", False) for row in report["rows"])
    seen = f"Of {len(rows)} claims, {held} hold here."
    return "\n\n".join((seen, listed, *map(_recipe, report["rows"])))


def _recipe(row: Report) -> str:
    """Show one recipe: its claim, its departures, and the figures on each set of data."""
    parts = [f"## {row['recipe']}", f"**{_verdict(row).capitalize()}**: {row['claim']}."]
    settings = [found.groups() for found in map(SETTING.fullmatch, row["departures"]) if found]
    others = [text for text in row["departures"] if not SETTING.fullmatch(text)]
    if others:
        parts.append(f"Differs from the paper by: {'; '.join(others)}.")
    if settings:
        parts.append(table(("setting", "here", "paper"), settings))
    if "figures" in row:
        parts += [_ran(row, f"On {row['data']}, {_verdict(row)}"), _effects(row)]
        parts.append(_figures(row["figures"]))
    for data, found in row.get("real", {}).items():
        parts += [_ran(found, f"On {data}, {_verdict(found)}"), _effects(found)]
        parts.append(_figures(found["figures"]))
    return "\n\n".join(parts)


def _least_effect(row: Report) -> str:
    """Give the effect whose interval ends lowest, counted from what it is to be above."""
    if "effects" not in row:
        return ""
    least = min(row["effects"], key=lambda effect: effect["low"] - effect["above"])
    return f"{least['effect']}: {_signed(least)}"


def _effects(row: Report) -> str:
    """Give each effect of a claim with its interval, and what it is to be above."""
    rows = [
        (
            effect["effect"],
            _signed(effect),
            f"{effect['above']:g}",
            "yes" if effect["holds"] else "no",
        )
        for effect in row["effects"]
    ]
    return table(("effect", "95 % interval", "to be above", "shown"), rows)


def _signed(effect: Report) -> str:
    ends = f"{effect['low']:+.3f} to {effect['high']:+.3f}"
    return f"{effect['difference']:+.3f} ({ends})"


def _verdict(row: Report) -> str:
    if "holds" not in row:
        return "not run yet"
    return "holds" if row["holds"] else "built, effect not shown here"


def _ran(row: Report, what: str) -> str:
    count = len(row["seeds"])
    return f"{what} ({count} seed{'s' * (count > 1)}, {row['minutes']:.1f} minutes):"


def _figures(figures: Report) -> str:
    """Give the figures' means, with half the width of each interval, as a grid if they form one."""
    means = {name: _mean(figure) for name, figure in figures.items()}
    split = {name: name.partition("/")[::2] for name in means}
    stages = list(dict.fromkeys(stage for stage, _ in split.values()))
    kinds = list(dict.fromkeys(kind for _, kind in split.values()))
    if len(kinds) == 1 or len(stages) * len(kinds) != len(means):
        return table(("figure", "mean"), list(means.items()))
    return table(
        ("", *kinds), [(stage, *(means[f"{stage}/{kind}"] for kind in kinds)) for stage in stages]
    )


def loop(report: Report) -> str:
    """Compare the training loop's step time with that of a loop written by hand."""
    cpu, threads = report["machine"]["cpu"], report["threads"]
    rows = [
        (row["run"], f"{row['hand_ms']:.1f}", f"{row['fit_ms']:.1f}", f"{row['ratio']:.3f}")
        for row in report["rows"]
    ]
    header = ("run", "by hand, ms a step", "`fit`, ms a step", "ratio")
    return f"{table(header, rows)}\n\nOn {threads} thread of {cpu}."


def lightly(report: Report) -> str:
    """Compare attar's objectives with lightly's: distance of curves, seconds of a step."""
    rows = []
    for row in report["rows"]:
        times = ("", "", "")
        if "ratio" in row:
            times = (f"{row['ms']:.2f}", f"{row['lightly_ms']:.2f}", f"{row['ratio']:.2f}")
        rows.append((f"`{row['objective']}`", f"{row['apart']:.0e}", *times))
    header = ("objective", "largest difference", "ms", "lightly, ms", "ratio")
    run = f"{report['steps']} steps; lightly {report['versions']['lightly']}"
    return f"{table(header, rows)}\n\n{run}, one thread of {report['machine']['cpu']}."


def labels(report: Report) -> str:
    """Show the accuracy of each method with 1, 10 and 100 % of the labels."""
    roads: dict[str, dict[float, Report]] = {}
    for row in report["rows"]:
        roads.setdefault(row["road"], {})[row["labels"]] = row
    shares = sorted({row["labels"] for row in report["rows"]})
    rows = []
    for road, found in roads.items():
        some = next(iter(found.values()))
        shown = [_mean(found[share]) if share in found else "" for share in shares]
        size = "" if some["bytes"] is None else f"{some['bytes'] / 1e6:.2f}"
        wait = "" if some["p50_ms"] is None else f"{some['p50_ms']:.2f}"
        rows.append((road, *shown, f"{some['parameters'] / 1e6:.2f} M", size, wait))
    header = ("method", *(f"{share:.0%}" for share in shares), "parameters", "MB", "p50, ms")
    scale, seeds = report["scale"], len(report["seeds"])
    return (
        f"{table(header, rows)}\n\n{seeds} seed{'s' * (seeds > 1)}. Steps: "
        f"{scale['pretrain_steps']:,} of pretraining at {scale['batch']} images, "
        f"{scale['supervised_steps']:,} from scratch and {scale['tune_steps']:,} of fine-tuning at "
        f"128, {scale['distil_steps']:,} of distillation at {scale['batch']}."
    )


def _mean(figure: Report) -> str:
    """Give a mean with half the width of its interval, where there is one."""
    mean, low, high = (figure.get(name) for name in ("mean", "low", "high"))
    mean = figure["accuracy"] if mean is None else mean
    give = "" if low is None or high is None or high - low < 0.001 else f" ± {(high - low) / 2:.3f}"
    return f"{mean:.3f}{give}"


def digits(report: Report) -> str:
    """Show Barlow Twins on digits, with pixels and an untrained encoder for comparison."""
    (row,) = (row for row in report["rows"] if row["recipe"] == "image/barlow_twins")
    if "figures" not in row:
        return ""
    stages = {
        "pixels": "raw pixels",
        "untrained": "untrained encoder",
        "pretrained": "pretrained encoder",
    }
    return table(
        ("embedding", "1-NN, 5 labels a class", "kNN, all labels", "linear, all labels"),
        [
            (label, *(f"{row['figures'][f'{stage}/{name}']['mean']:.3f}" for name in PROBES))
            for stage, label in stages.items()
        ],
    )


def _loaded(row: Report, *percentiles: str) -> str:
    """Give a load's requests a second, and some of its percentiles."""
    times = ["none" if row[name] is None else f"{row[name]:,.0f} ms" for name in percentiles]
    return ", ".join([f"{row['requests_per_second']:.0f}", *times])


def limits(report: Report) -> str:
    """Show a server's memory under the worst requests that its default limits allow."""
    header = ("the worst legal request", "callers", "answered", "before, MB", "peak, MB")
    rows = [
        (
            row["kind"],
            str(row["callers"]),
            str(row["answered"]),
            *(f"{row[name]:.0f}" for name in ("before_mb", "peak_mb")),
        )
        for row in report["rows"]
    ]
    text = fill(
        f"With the defaults {report['model']} holds {report['idle_mb']:.0f} MB at rest and at most "
        f"{report['peak_mb']:.0f} MB under these, with {report['patience_s']:g} s to answer "
        f"each; the others are refused with a time to retry, or meet their deadline "
        f"({report['machine']['cpu']}): "
        "`python -m benchmarks.limits`."
    )
    return f"{text}\n\n{table(header, rows)}"


def foreign_ids(report: Report) -> str:
    """Count the requests with another tokenizer's ids that were answered."""
    foreign, own = report["foreign"], report["own"]
    answered = sum(counts.get("200", 0) for counts in foreign.values())
    return fill(
        f"Of {report['texts']:,} texts (CLINC150, STS-B, Cranfield) as ids of each of "
        f"{', '.join(foreign)}, sent to `/v1/embeddings` of {report['model']}, {answered} were "
        f"answered; of its own ids of the same texts {own['refused']} were refused. The check "
        f"takes {own['check_us']:.0f} us of processor time for {own['tokens']:.0f} ids "
        f"({report['machine']['cpu']}): `python -m benchmarks.foreign_ids`."
    )


def siege(report: Report) -> str:
    """Give honest callers' errors and times while others attacked."""
    alone, attacked, same = report["quiet"], report["siege"], report["same_load"]
    return fill(
        f"In {report['minutes']:.0f} minutes of attacks and large requests "
        f"({report['machine']['cpu']}, one core for the server), honest callers had "
        f"{attacked['wrong']} of {attacked['calls']:,} answers wrong and {attacked['failed']} "
        f"refused: p50 {attacked['p50_ms']:.1f} ms ({alone['p50_ms']:.1f} when quiet), "
        f"p99 {attacked['p99_ms']:.0f} ms ({alone['p99_ms']:.0f} when quiet). "
        f"Next to a process that takes as much processor time as the attackers did and sends "
        f"nothing, p99 is {same['p99_ms']:.0f} ms. "
        f"The server's own memory was {report['own_mb_second_fifth']:.0f} MB in the second fifth "
        f"of the time and {report['own_mb_last_fifth']:.0f} MB in the last; mapped files, of "
        f"collections that attackers created, {report['mapped_mb_second_fifth']:.0f} and "
        f"{report['mapped_mb_last_fifth']:.0f} MB: `python -m benchmarks.siege`."
    )


def conformance(report: Report) -> str:
    """Count the faults of servers that `attar verify` found, and its false alarms."""
    right = [row["server"] for row in report["rows"] if not row["fault"]]
    return fill(
        f"Of {report['faults']} faults made in a server of all-MiniLM-L6-v2, {report['found']} "
        "were found, each by the check that names it. There were "
        f"{report['false_alarms']} false alarms, on these and on servers without a fault "
        f"({'; '.join(right)}): "
        "`python -m benchmarks.conformance`."
    )


def static(report: Report) -> str:
    """Give the speed of a static encoder on each kind of CPU."""
    return table(
        ("CPU", "variant", "MB", "us a text", "of which tokenising", "texts a second"),
        [
            (
                name,
                variant,
                f"{row['bytes'] / 1e6:.1f}",
                f"{row['us']:.0f}",
                f"{row['prepare_us']:.0f}",
                f"{row['texts_per_second']:,}",
            )
            for name, kind in sorted(report.items())
            for variant, row in kind.items()
            if variant in ("fp32", "int8")
        ],
    )


def clients(report: Report) -> str:
    """Show what each of other projects' clients did."""
    counted = ("calls", "refusals", "vectors", "wrong_vectors", "failures")
    return table(
        ("client", "version", *(name.replace("_", " ") for name in counted)),
        [
            (package, row["version"], *(str(row[name]) for name in counted))
            for package, row in report["clients"].items()
        ],
    )


def ladder_home(report: Report) -> str:
    """Compare the encoders on the corpora that they were trained on, at full width."""
    main = {"cranfield": "ndcg_at_10", "clinc150": "ndcg_at_10"}
    rows = [
        (
            row["corpus"],
            f"{row['encoder']}, {row['precision']}",
            _with_limits(row),
            _with_limits(row, "of_teacher"),
            f"{row['texts_per_second']:,.0f}",
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['train_seconds']:,.0f}" if row["train_seconds"] else "",
            str(row["seeds"]),
        )
        for row in _full_width(report)
        if row["trained_on"] in {None, row["corpus"]}
        if row["corpus"] in {r["trained_on"] for r in report["rows"]} | {"docstrings_modules"}
        if row["metric"] == main.get(row["corpus"], "recall_at_10")
    ]
    header = ("corpus", "encoder", "recall@10 or nDCG@10", "of the teacher's", "texts/s", "MB")
    absent = [
        fill(f"Left out: {row['encoder']} on {row['home']}, because of {row['why_not']}.")
        for row in report["skipped"]
    ]
    return "\n\n".join((table((*header, "CPU s of training", "seeds"), rows), *absent))


def ladder_abroad(report: Report) -> str:
    """Show what encoders that were trained on a corpus keep on others."""
    tasks = (("stsb", "spearman"), ("clinc150", "accuracy_10_shot"), ("cranfield", "ndcg_at_10"))
    by_encoder: dict[tuple[str, ...], dict[tuple[str, str], str]] = {}
    for row in _full_width(report):
        key = (f"{row['encoder']}, {row['precision']}", row["trained_on"] or "")
        task = (row["corpus"], row["metric"])
        if task in tasks and row["corpus"] != row["trained_on"]:
            share = f" ({row['of_teacher']:.1%})" if "of_teacher" in row else ""
            by_encoder.setdefault(key, {})[task] = f"{row['value']:.3f}{share}"
    header = (
        "encoder",
        "trained on",
        "STS-B, Spearman",
        "CLINC150, 10 labels",
        "Cranfield, nDCG@10",
    )
    return table(
        header,
        [(*key, *(own.get(task, "") for task in tasks)) for key, own in by_encoder.items()],
    )


def ladder_widths(report: Report) -> str:
    """Show recall by the width of the embeddings, and of one bit a dimension."""
    rows = [
        row
        for row in report["rows"]
        if row["corpus"] == "docstrings_modules"
        and row["metric"] == "recall_at_10"
        and row["trained_on"] in {None, row["corpus"]}
    ]
    one_bit = ", 1-bit vectors"
    by_encoder: dict[str, dict[str, str]] = {}
    for row in rows:
        own = by_encoder.setdefault(
            f"{row['encoder']}, {row['precision'].removesuffix(one_bit)}", {}
        )
        bits = row["precision"].endswith(one_bit)
        own["1 bit" if bits else str(row["width"])] = f"{row['value']:.3f}"
    header = ("64", "128", "256", "384", "1 bit")
    return table(
        ("recall@10 at width", *header),
        [(name, *(own.get(key, "") for key in header)) for name, own in by_encoder.items()],
    )


LADDER_AIMS: Sequence[tuple[str, str, str, str, float]] = (
    ("adapted", "fp32", "docstrings_modules", "recall_at_10", 1.1),
    ("two_layers", "int8", "docstrings_modules", "recall_at_10", 1.05),
    ("static", "int8", "docstrings_modules", "recall_at_10", 1.0),
    ("adapted", "fp32", "stsb", "spearman", 0.98),
    ("two_layers", "int8", "stsb", "spearman", 0.95),
    ("adapted", "fp32", "clinc150", "accuracy_10_shot", 0.97),
    ("two_layers", "int8", "clinc150", "accuracy_10_shot", 0.97),
)
"""Encoder, precision, corpus and metric, and the least share of the teacher's figure."""
AIM_SEEDS = 5


def ladder_aims(report: Report) -> str:
    """Say which aims the encoders that were trained on docstrings reach."""
    home = {
        (row["encoder"], row["precision"], row["corpus"], row["metric"]): row
        for row in _full_width(report)
        if row["trained_on"] == "docstrings_modules" and "of_teacher" in row
    }
    rows = []
    for encoder, precision, corpus, metric, aim in LADDER_AIMS:
        row = home.get((encoder, precision, corpus, metric))
        name = f"{encoder}, {precision}: {corpus}"
        if row is None:
            rows.append((name, f"{aim:.2f}", "not measured", "", ""))
            continue
        seeds = row["seeds"]
        reached = "yes" if row["of_teacher_low"] >= aim else "no"
        if reached == "yes" and seeds < AIM_SEEDS:
            reached = f"at {seeds} of {AIM_SEEDS} seeds"
        share = _with_limits(row, "of_teacher")
        rows.append((name, f"{aim:.2f}", share, str(seeds), reached))
    text = fill(
        "Each aim is a share of the figure of all-MiniLM-L6-v2, fp32, on the same queries; the "
        "lower end of the interval decides, with five seeds. All are of encoders that were "
        "trained on docstrings without the held-out modules."
    )
    aims = table(("aim", "at least", "measured", "seeds", "reached"), rows)
    return "\n\n".join((text, aims, *map(fill, _ladder_sums(report))))


def _ladder_sums(report: Report) -> Iterator[str]:
    """Compare asymmetric search with symmetric, and add up the time of training."""
    home = {
        (row["encoder"], row["precision"]): row
        for row in _full_width(report)
        if row["corpus"] == row["trained_on"] == "docstrings_modules"
        and row["metric"] == "recall_at_10"
    }
    pair = [home.get((name, "int8")) for name in ("asymmetric", "two_layers")]
    if pair[0] and pair[1]:
        yield (
            f"On held-out modules asymmetric search has recall@10 {pair[0]['value']:.3f}, and the "
            f"student among its own vectors {pair[1]['value']:.3f}, as int8. The aim was half a "
            "point more."
        )
    names = ("adapted", "static", "two_layers", "six_layers")
    rungs = {name: row for (name, _), row in home.items() if name in names}
    if not rungs:
        return
    minutes = sum(row["train_seconds"] for row in rungs.values()) / 60
    yield (
        f"Training {', '.join(sorted(rungs))} once took {minutes:.0f} minutes of one core "
        f"({report['machine']['cpu']})."
    )


def _full_width(report: Report) -> list[Report]:
    """Give the rows of whole embeddings: for an encoder, the widest."""
    widest: dict[str, int] = {}
    for row in report["rows"]:
        widest[row["encoder"]] = max(row["width"], widest.get(row["encoder"], 0))
    return [
        row
        for row in report["rows"]
        if row["width"] == widest[row["encoder"]] and row["precision"] in {"fp32", "int8"}
    ]


def _with_limits(row: Report, name: str = "value") -> str:
    """Give a figure and its interval; "" where there is none."""
    if name not in row:
        return ""
    low, high = ("low", "high") if name == "value" else (f"{name}_low", f"{name}_high")
    return f"{row[name]:.3f} ({row[low]:.3f} to {row[high]:.3f})"


CLAIMS: Mapping[str, tuple[str, Callable[[Report], str]]] = MappingProxyType(
    {
        "demo": ("demo.json", demo),
        "demo-encoders": ("demo.json", demo_encoders),
        "demo-variants": ("demo.json", demo_variants),
        "demo-anomalies": ("demo.json", demo_anomalies),
        "demo-tasks": ("demo.json", demo_tasks),
        "attention": ("attention.json", attention),
        "native": ("attention.json", native),
        "binarized-quality": ("binarized_quality.json", binarized_quality),
        "minilm": ("minilm.json", minilm),
        "imagenet": ("imagenet.json", imagenet),
        "distillation-curve": ("distillation_curve.json", distillation_curve),
        "triton": ("triton.json", triton),
        "overhead": ("overhead.json", overhead),
        "rivals": ("rivals.json", rivals),
        "rivals-best": ("rivals.json", rivals_best),
        "search": ("search.json", search),
        "searchable": ("search.json", searchable),
        "detectors": ("detectors.json", detectors),
        "classifiers": ("classifiers.json", classifiers),
        "faults": ("faults.json", faults),
        "durability": ("durability.json", durability),
        "conformance": ("verify.json", conformance),
        "foreign-ids": ("foreign_ids.json", foreign_ids),
        "workers": ("workers.json", workers),
        "memory": ("memory.json", memory),
        "burst-memory": ("burst_memory.json", burst_memory),
        "recipes": ("recipes.json", recipes),
        "digits": ("recipes.json", digits),
        "loop": ("loop.json", loop),
        "lightly": ("lightly.json", lightly),
        "labels": ("labels.json", labels),
        "limits": ("limits.json", limits),
        "siege": ("siege.json", siege),
        "static": ("static.json", static),
        "clients": ("clients.json", clients),
        "retrieval": ("retrieval.json", retrieval),
        "ladder-home": ("ladder.json", ladder_home),
        "ladder-abroad": ("ladder.json", ladder_abroad),
        "ladder-widths": ("ladder.json", ladder_widths),
        "ladder-aims": ("ladder.json", ladder_aims),
    }
)
"""By marker: its file in benchmarks/results, and the function that writes its text."""


def fill(sentence: str) -> str:
    """Give a paragraph in lines of at most 100 characters."""
    return textwrap.fill(sentence, 100, break_long_words=False, break_on_hyphens=False)


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Give a Markdown table, numbers to the right of the first column."""
    lines = [header, ("---", *("---:",) * (len(header) - 1)), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def rewrite(page: str) -> str:
    """Give the page with every claim written again; a claim without a results file is empty."""

    def rewritten(match: re.Match[str]) -> str:
        file, text_of = CLAIMS[match["name"]]
        results = RESULTS / file
        if not results.exists():
            return f"{match['begin']}{match['end']}"
        return f"{match['begin']}{text_of(json.loads(results.read_text('utf-8')))}\n{match['end']}"

    return MARKED.sub(rewritten, page)


def main() -> None:
    """Rewrite the pages, or with --check exit 1 and name those that are stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a page is stale"
    )
    check = parser.parse_args().check
    stale = []
    for path in PAGES:
        page = path.read_text("utf-8")
        if (fresh := rewrite(page)) != page:
            stale.append(path.relative_to(ROOT))
            if not check:
                path.write_text(fresh, "utf-8")
    if check and stale:
        sys.exit(f"{', '.join(map(str, stale))}: not what benchmarks/results says; run `make docs`")


if __name__ == "__main__":
    main()
