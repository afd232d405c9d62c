"""Accuracy of a classifier by its own head."""

from collections.abc import Iterator

from schemas.protocols.classifiers import Accuracy
from ssl_tasks.evaluate.findings import Number, right
from ssl_tasks.evaluate.neighbours import Floats, Ints
from ssl_tasks.evaluate.subject import Subject


def judge(protocol: Accuracy, subject: Subject) -> Iterator[Number]:
    found = accuracy(subject.known.queries, subject.known.labels)
    yield Number("accuracy", [float(found.mean())], len(found), found)


def meaning(protocol: Accuracy) -> str:
    return (
        "The class that a classifier's own head names, of all the classes that it knows. Percent of test images that are right; "
        "an image of a class that it does not know counts as wrong."
    )


def accuracy(logits_QK: Floats, labels_Q: Ints) -> Floats:
    """Whether the class with the highest logit is right, 1 or 0, (Q,); never for a class that the classifier does not know, -1."""
    return right(logits_QK.argmax(1), labels_Q)
