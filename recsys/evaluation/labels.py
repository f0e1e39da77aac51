"""Names of metrics, scorers and slices for people."""

_WRITTEN = {"ndcg": "NDCG", "recall": "Recall", "map": "MAP"}


def label(name: str) -> str:
    """Return the name of a metric, scorer or slice as a person would write it."""
    words = name.replace("_at_", "@").replace("_", " ").replace(":", ": ")
    if words == "mrr":
        return "MRR"
    metric, at, k = words.partition("@")
    return f"{_WRITTEN.get(metric, metric)}{at}{k}"
