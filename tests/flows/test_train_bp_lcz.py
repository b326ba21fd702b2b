"""What a run says at its end."""

from flows.train_bp_lcz import _one_line_of


def test_stages_that_failed_for_one_reason_share_it() -> None:
    failures = {
        "train@a": "stage train@a: mine.py: no such option",
        "train@b": "stage train@b: mine.py: no such option",
        "evaluate@c": "stage evaluate@c: no space left",
        "train@d": "params.yaml: unreadable",
    }
    assert _one_line_of(failures) == (
        "stage train@a, train@b: mine.py: no such option; stage evaluate@c: no space left; "
        "stage train@d: params.yaml: unreadable"
    )
