"""What a model takes to run, as one judges it: counts, and times of this machine."""

from collections.abc import Iterator

from schemas.protocols.costs import Cost
from ssl_tasks.evaluate import timing
from ssl_tasks.evaluate.findings import Number, Skipped
from ssl_tasks.evaluate.subject import Subject
from ssl_tasks.nn.encoder import parameters


def judge(protocol: Cost, subject: Subject) -> Iterator[Number]:
    if not subject.is_model:
        raise Skipped("is a baseline")
    model = (subject.classifier or subject.encoder).eval()
    yield Number("parameters", [float(parameters(model))], 1)
    yield Number("flops", [float(timing.flops(model, subject.shape))], 1)
    yield Number("megabytes", [subject.bytes / 1e6], 1)
    for device in timing.devices():
        settings = (device, protocol.batch, protocol.repeats)
        if settings not in subject.timed:
            subject.timed[settings] = timing.speed(model, subject.shape, *settings)
        speed = subject.timed[settings]
        yield Number(f"latency_{device}", [speed.latency], speed.passes)
        yield Number(f"throughput_{device}", [speed.throughput], speed.passes)


def meaning(protocol: Cost) -> str:
    return (
        "FLOPs are those of one image through convolutions, matrix products and attention; a multiply and an add are two. MB are "
        f"10\N{SUPERSCRIPT SIX} bytes of the weights' file. Latency is the median of up to {protocol.repeats} passes of one image after a warm-up, "
        f"throughput that of {protocol.batch} images at once; in float32, without reading or preparing images."
    )
