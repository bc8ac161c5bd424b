"""Nothing inside is shown: answers are for outsiders, logs for operators."""

from pathlib import Path

import pytest

from attar.server.errors import public
from benchmarks.attacks.disclosure import ATTACKS, leaks
from benchmarks.attacks.ground import Attack

from ..support.attacks import named


@pytest.mark.parametrize("attack", named(ATTACKS, slow=["what broken parts tell"]))
def test_no_answer_tells_of_the_inside(attack: Attack, tmp_path: Path) -> None:
    outcome = attack.run(tmp_path)

    assert outcome.held, outcome.note


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("/srv/models/a.attar: fp32.onnx has 3 bytes", "a.attar: fp32.onnx has 3 bytes"),
        ("cannot read '/etc/attar/keys.toml': denied", "cannot read 'keys.toml': denied"),
        ("failed:/build/core/graph.cc:150 no", "failed:graph.cc:150 no"),
        ("(/usr/lib/x.py)", "(x.py)"),
        ("Triton at 10.0.0.5:8001 embeds", "Triton embeds"),
        ("model a at triton:8001: gone", "model a: gone"),
        ("model a at [::1]:8001: gone", "model a: gone"),
        ("no answer: UNKNOWN: ipv4:10.0.0.5:1: refused", "no answer: UNKNOWN:: refused"),
        ("no cluster at https://qdrant:6333; check", "no cluster; check"),
        ("GET /v1/models lists them", "GET /v1/models lists them"),
        ("is it /v2/models/a? GET /openapi.json", "is it /v2/models/a? GET /openapi.json"),
        ("no model 'org/tiny'; 2 of 3/4", "no model 'org/tiny'; 2 of 3/4"),
        ("origin is 'https://a.example', and", "origin is 'https://a.example', and"),
        ("the day ends at 00:00 UTC", "the day ends at 00:00 UTC"),
        ("this tokenizer's: " + "x " * 60 + "one's", "this tokenizer's: " + "x " * 60 + "one's"),
        (f"no model {'a b' * 40!r}; see", f"no model '{('a b' * 40)[:79]}…'; see"),
        ("is " + "9" * 4000 + "; give", "is " + "9" * 79 + "…"),
        ("a\nb\x1b[2K\u202ec", "a\\nb\\x1b[2K\\u202ec"),
        ("x " * 500, "x " * 199 + "x…"),
    ],
)
def test_a_message_to_a_caller_says_what_is_wrong_and_not_where(message: str, shown: str) -> None:
    assert public(message) == shown


@pytest.mark.parametrize(
    "text",
    [
        "cannot read /home/me/data/x: no",
        'Traceback: File "x.py", line 3',
        "ValueError: bad",
        "StoreProcess has ended",
        "attar.server.engine failed",
        "x\x1b[2K",
        "dimensions is " + "9" * 300,
    ],
)
def test_what_would_tell_is_found(text: str) -> None:
    assert leaks(text, secrets=("/home/me",))
