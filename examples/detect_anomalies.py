"""Fit a detector on a running server with what is normal, and score what is new.

attar serve student.attar --data-dir data &
python examples/detect_anomalies.py 127.0.0.1:8001
"""

import sys

import attar

CITIES = ("Rome", "Oslo", "Lima", "Cairo")
NORMAL = [f"user {name} logged in from {city}" for name in "abcdefgh" for city in CITIES]
NEW = ["user k logged in from Rome", "kernel: out of memory, process 4711 killed"]


def main(server: str) -> None:
    """Fit, score, and delete the detector."""
    with attar.Client(server) as client:
        client.fit_anomaly("logins", NORMAL)
        scored = client.score_anomaly("logins", NEW)
        for text, score, flagged in zip(NEW, scored.scores, scored.anomalies, strict=True):
            print(f"{score:.2f}  {'anomaly' if flagged else 'normal '}  {text}")
        client.delete_detector("logins")


if __name__ == "__main__":
    main(sys.argv[1])
