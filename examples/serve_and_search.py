"""Fill a collection of a running server with texts, and search it by meaning.

attar serve student.attar --data-dir data &
python examples/serve_and_search.py 127.0.0.1:8001 "how do I stop a thread?"
"""

import sys

import attar

TEXTS = (
    "Start a thread and wait until it ends.",
    "Ask a thread to stop by an event that it looks at.",
    "Read a file line by line.",
    "Sort a list by a key.",
)


def main(server: str, query: str) -> None:
    """Make a collection, fill it, and print the best hits."""
    with attar.Client(server) as client:
        if "texts" not in {collection.name for collection in client.collections()}:
            client.create_collection("texts")
        payloads = [{"text": text} for text in TEXTS]
        client.upsert("texts", range(len(TEXTS)), TEXTS, payloads=payloads)
        for hit in client.search("texts", [query], limit=2)[0]:
            print(f"{hit.score:.2f}  {hit.payload['text']}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
