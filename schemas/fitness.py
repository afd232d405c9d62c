"""Checks of a stage that trains: whether networks, views and methods fit each other. Each raises `Unfit`."""

from collections.abc import Mapping

from schemas.distillers import DML, ONE
from schemas.encoders import EXAMPLES, Encoder
from schemas.finetuning import Strategy
from schemas.methods import CLSA, WMSE, Method, MethodSpec
from schemas.spec import Unfit
from schemas.students import Student
from schemas.training import Train
from schemas.views import Views


def check_crops(views: Views, encoder: Encoder, key: str) -> None:
    """A local crop must be no larger than the encoder's images, and cut in whole patches. `key` is where the views are stated."""
    local = views.local_side(encoder.image_size) if views.local_count else 0
    if local > encoder.image_size:
        raise Unfit(f"a local crop of {local} px is larger than the encoder's image_size {encoder.image_size}", f"{key}.local_size", key, "method")
    check_patches("a local crop", local, encoder, f"{key}.local_size")


def check_not_whitened(encoder: Encoder, key: str) -> None:
    """A whitening cannot be trained."""
    if encoder.whitening:
        raise Unfit("whitening is fitted to trained features: leave it out, and let a stage of kind whiten follow", f"{key}.whitening")


def check_patches(crop: str, size: int, encoder: Encoder, key: str) -> None:
    """A crop must be cut in whole patches. `key` is where its size is stated."""
    if encoder.patch and size % encoder.patch:
        near = max(1, round(size / encoder.patch)) * encoder.patch
        raise Unfit(f"{crop} of {size} px is not a multiple of patch size {encoder.patch}: set {key}, such as to {near}", key, "method")


def check_method(method: Method, encoder: Encoder) -> None:
    """Whether an encoder can do what a pretraining method asks of it."""
    kind, able = method.kind, method.architectures
    if able and encoder.architecture not in able:
        wanted = " or ".join(EXAMPLES[each] for each in able)
        told = "masks patches, and '{}' has none" if able == ("vit",) else "masks parts of the image inside the encoder, which is not known for '{}'"
        raise Unfit(f"{kind} {told.format(encoder.name)}: take {wanted}", "encoder.name")
    if "colour" in method.needs and encoder.channels != 3:
        raise Unfit(f"{kind} learns from colours, and encoder.channels {encoder.channels} reads images without: set it to 3", "encoder.channels", "method")
    if isinstance(method, CLSA):  # whose strong crops are as small as local ones
        check_crops(method.strong.model_copy(update={"local_count": 1}), encoder, "method.strong")


def check_batch(method: MethodSpec, batch_size: int) -> None:
    """A batch must hold as many images as a method looks at together."""
    if isinstance(method, WMSE) and batch_size < method.slice_size:
        raise Unfit(
            f"w_mse whitens slices of {method.slice_size} images, more than the {batch_size} of a batch: raise batch_size, or lower method.slice_size",
            "train.batch_size",
            "method.slice_size",
            "method",
        )


def check_tokenizer(temperature: tuple[float, float], train: Train) -> None:
    """A tokenizer's temperature falls, and its training has nothing that is an encoder's alone."""
    first, last = temperature
    if not 0 < last <= first:
        raise Unfit(f"temperature [{first:g}, {last:g}] must fall, to above 0", "temperature")
    usual = Train()
    for name in ("layer_decay", "patch_embed_rate", "accumulate", "activation_checkpointing", "compile"):
        if getattr(train, name) != getattr(usual, name):
            raise Unfit(f"{name} is for an encoder, and a tokenizer has none: leave it out", f"train.{name}", "train")


def of_classifier(strategy: Strategy, encoder: Encoder | None, batch_norm: str | None, views: Views, train: Train) -> None:
    """What a finetune stage trains, by what, and from what. `encoder` is one that is trained from nothing."""
    kind = strategy.kind
    if views.count != 1 or views.local_count:
        wrong = "count" if views.count != 1 else "local_count"
        raise Unfit("a classifier sees one view of an image: set count to 1 and local_count to 0", f"views.{wrong}", "views")
    if encoder:
        check_not_whitened(encoder, "encoder")
        if kind != "full":
            raise Unfit(f"{kind} is for a trained encoder: name its checkpoint, or train this one from nothing with strategy full", "strategy")
        if batch_norm == "frozen":
            raise Unfit("an encoder that is trained from nothing has no statistics yet that could be kept: leave batch_norm out", "batch_norm")
    if batch_norm == "trained" and (strategy.frozen or kind == "lora"):
        raise Unfit(f"{kind} leaves the encoder's batch norms as they are: leave batch_norm out", "batch_norm")
    if train.sharding == "fsdp" and strategy.staged:
        raise Unfit(f"{kind} trains more and more of the network, which fsdp cannot: set sharding to ddp", "train.sharding", "strategy")


def of_student(name: str, students: Mapping[str, Student], *, views: Views, batch_size: int, taught: bool) -> None:
    """One of the students of a distillation, with its method and its budget. `taught` is whether there is a teacher."""
    student = students[name]
    key, methods = f"students.{name}", student.methods
    own = f"{key}.method"
    check_crops(views, student, "views")
    check_not_whitened(student, key)
    kinds = [method.kind for method in methods]
    if twice := next((kind for kind in kinds if kinds.count(kind) > 1), ""):
        raise Unfit(f"'{twice}' stands twice: set its weight instead", own, "method")
    if not taught and (learner := next((method.kind for method in methods if method.taught), "")):
        raise Unfit(f"missing 'teacher', from which {learner} learns", "teacher", own, "method")
    if not taught and student.init_from and student.init_from.layers:
        raise Unfit(f"missing 'teacher', whose layers '{name}' starts from", "teacher", f"{key}.init_from")
    if views.local_count and not any(method.multi_crop for method in methods):
        raise Unfit(f"{kinds[0]} has no use for local crops: set views.local_count to 0", "views.local_count", "views")
    if views.count < 2 and (comparing := next((method.kind for method in methods if method.two_views), "")):
        raise Unfit(f"{comparing} compares two views of an image: set views.count to 2", "views.count", "views", own, "method")
    if not student.is_vit and (masks := next((method.kind for method in methods if method.masks_patches), "")):
        raise Unfit(f"{masks} masks patches, and '{student.name}' has none: take a ViT, such as vit_small_patch16_224", f"{key}.name")
    assert student.train is not None
    if student.train.compile and (looks := next((method.kind for method in methods if method.taps or isinstance(method, ONE)), "")):
        raise Unfit(f"{looks} looks at layers inside the encoder, and a compiled one shows none: leave compile out", f"{key}.train.compile", "train.compile")
    if student.train.batch_size != batch_size:
        raise Unfit(
            f"batch_size {student.train.batch_size} is not the stage's {batch_size}: all students of a pass see the same batches",
            f"{key}.train.batch_size",
        )
    _check_peers(name, students)
    for other, twin in students.items():
        if other == name:
            break
        if twin.channels != student.channels:
            raise Unfit(f"channels {student.channels} is not the {twin.channels} of '{other}': all students of a pass see the same images", f"{key}.channels")
        if _same_peers(student, twin):
            raise Unfit(
                f"'{name}' and '{other}' start from the same weights: peers that agree teach each other nothing; leave one's init_from out",
                f"{key}.init_from",
            )
        if twin == student and not any(isinstance(method, DML) for method in methods):  # whose peers differ by their random weights alone
            raise Unfit(f"'{name}' is the same as '{other}': leave one out, or let a matrix over `seed` make stages that differ by it", key)


def _same_peers(student: Student, other: Student) -> bool:
    """Whether two students that learn from each other by DML are the same network with the same first weights.

    Random ones always differ: they follow from the student's name.
    """
    mutual = all(any(isinstance(method, DML) for method in each.methods) for each in (student, other))
    return mutual and student.init_from is not None and student.init_from == other.init_from and student.encoder == other.encoder


def _check_peers(name: str, students: Mapping[str, Student]) -> None:
    """Who learns from other students while they train needs others, and each must be whole."""
    student, key = students[name], f"students.{name}"
    assert student.train is not None
    for kind in (method.kind for method in student.methods if method.cohort):
        if not any(n != name and any(kind == method.kind for method in peer.methods) for n, peer in students.items()):
            raise Unfit(f"{kind} learns from its peers, and '{name}' has none: add another student that learns so", f"{key}.method", "method", key)
        if student.train.sharding == "fsdp":
            raise Unfit(f"{kind} looks at its peers, of which fsdp keeps a part on each device: set sharding to ddp", f"{key}.train.sharding", "train.sharding")
