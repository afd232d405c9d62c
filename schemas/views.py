"""How an image becomes views: random crops of it, each augmented on its own."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, cast, get_args

from pydantic import Discriminator, Field, GetJsonSchemaHandler, NonNegativeInt, PositiveInt, Strict, Tag, WithJsonSchema, model_validator
from pydantic_core import CoreSchema

from schemas.spec import Pair, Spec, Unfit

Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0)]
_ONE = {"type": "number", "minimum": 0, "maximum": 1}
PerCrop = Annotated[
    Annotated[Probability, Tag("(one)")] | Annotated[tuple[Probability, ...], Strict(False), Tag("(each)")],
    Discriminator(lambda value: "(each)" if isinstance(value, list | tuple) else "(one)"),
    WithJsonSchema({"anyOf": [_ONE, {"type": "array", "items": _ONE}]}),
]
"""One probability for all global crops, or a list with one for each."""

Preset = Literal["simclr", "simclr_cifar", "moco_v1", "moco_v2", "byol", "barlow_twins", "swav", "dino", "dinov2", "dinov3", "mae", "sscd"]


class Views(Spec):
    """Random resized crops with colour, blur and geometry, every sample with its own random parameters; a bare name is a preset.

    Defaults are SimCLR's on ImageNet (https://arxiv.org/abs/2002.05709, appendix A).
    """

    bare = "preset"
    preset: Preset | None = Field(
        None, exclude=True, description="settings named after the paper that they are from: they replace the method's, what is written besides replaces them"
    )
    count: PositiveInt = Field(2, description="global crops, each of the encoder's image size")
    scale: Pair = Field((0.08, 1.0), description="share of the area that a global crop covers")
    local_count: NonNegativeInt = Field(0, description="further small crops (multi-crop, SwAV)")
    local_size: PositiveInt | None = Field(
        None, description="side of a local crop; where not given 3/7 of image_size if that is a multiple of 16 (96 for 224), else half of it"
    )
    local_scale: Pair = Field((0.05, 0.4), description="share of the area that a local crop covers")
    ratio: Pair = Field((3 / 4, 4 / 3), description="width over height of a crop")
    flip: Probability = Field(0.5, description="probability of a horizontal flip; 0 for digits, text and other chiral images")
    jitter: Probability = Field(0.8, description="probability of colour jitter")
    brightness: Strength = Field(0.8, description="largest relative change of brightness")
    contrast: Strength = Field(0.8, description="largest relative change of contrast")
    saturation: Strength = Field(0.8, description="largest relative change of saturation")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(0.2, description="largest shift of hue, in turns")
    grey: Probability = Field(0.2, description="probability of grey scale")
    blur: PerCrop = Field(0.5, description="probability of a Gaussian blur; a list has one a global crop")
    blur_sigma: Pair = Field((0.1, 2.0), description="range of its standard deviation at 224 px, in pixels; less for smaller crops")
    local_blur: Probability | None = Field(None, description="the same of a local crop; that of the last global one where not given")
    solarize: PerCrop = Field(0.0, description="probability of inverting the bright half; a list has one a global crop")
    local_solarize: Probability | None = Field(None, description="the same of a local crop; that of the last global one where not given")
    turn: Probability = Field(1.0, description="probability of rotation and shear")
    rotation: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="largest rotation, in degrees")
    shear: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="largest horizontal shear: shift of a row over its distance from the middle")
    noise: Strength = Field(0.0, description="standard deviation of additive Gaussian noise, for pixels in [0, 1]")
    text: Probability = Field(0.0, description="probability of a pattern like lines of text over the image")
    shape: Probability = Field(0.0, description="probability of a box or ellipse over the image")
    compression: Probability = Field(0.0, description="probability of JPEG compression, of quality 1 to 100")

    @classmethod
    def spelled_out(cls, written: Any) -> Any:
        """A preset's values under what is written besides: its name is not kept, so that equal values make equal artifacts."""
        mapping = {cls.bare: written} if isinstance(written, str) else written
        if not isinstance(mapping, dict) or not isinstance(mapping.get("preset"), str) or mapping["preset"] not in PRESETS:
            return mapping
        return {**PRESETS[mapping["preset"]], **{name: value for name, value in mapping.items() if name != "preset"}}

    @model_validator(mode="before")
    @classmethod
    def _take_the_preset(cls, written: Any) -> Any:
        return cls.spelled_out(written)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The bare name of a preset stands for `{preset: name}`."""
        return {"anyOf": [{"enum": list(get_args(Preset))}, handler(core)]}

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        for name in ("scale", "local_scale", "ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high or (name != "ratio" and high > 1):
                raise Unfit(f"{name} [{low}, {high}] must rise from above 0" + ("" if name == "ratio" else " to at most 1"), name)
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise Unfit(f"blur_sigma [{self.blur_sigma[0]}, {self.blur_sigma[1]}] must rise from above 0", "blur_sigma")
        for name in ("blur", "solarize"):
            each = getattr(self, name)
            if isinstance(each, tuple) and len(each) != self.count:
                raise Unfit(f"{name} lists {len(each)} probabilities for a count of {self.count}: write one number, or one a global crop", name, "count")
        return self

    def probabilities(self, name: Literal["blur", "solarize"]) -> list[float]:
        """Of every crop, the global ones first."""
        stated = cast(float | tuple[float, ...], getattr(self, name))
        each = list(stated) if isinstance(stated, tuple) else [stated] * self.count
        local = getattr(self, f"local_{name}")
        return each + [each[-1] if local is None else local] * self.local_count

    def local_side(self, image_size: int) -> int:
        """Side of a local crop, in pixels, for an encoder of `image_size`."""
        by_papers = image_size * 3 // 7
        return self.local_size or (by_papers if image_size % 7 == 0 and by_papers % 16 == 0 else max(1, image_size // 2))


def _colours(strength: tuple[float, float, float, float], **others: Any) -> dict[str, Any]:
    brightness, contrast, saturation, hue = strength
    colours = {"jitter": 0.8, "brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue, "grey": 0.2}
    plain = {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3), "flip": 0.5, "blur": 0.5, "solarize": 0.0, "rotation": 0.0, "shear": 0.0, "noise": 0.0}
    plain |= {"blur_sigma": (0.1, 2.0), "turn": 1.0, "text": 0.0, "shape": 0.0, "compression": 0.0}
    return {**plain, **colours, "local_blur": None, "local_solarize": None, **others}


_STRONG, _HALF, _WEAK = (0.8, 0.8, 0.8, 0.2), (0.4, 0.4, 0.4, 0.1), (0.4, 0.4, 0.2, 0.1)
_UNLIKE: dict[str, Any] = {"blur": (1.0, 0.1), "solarize": (0.0, 0.2)}
"""The two global crops differ: BYOL, table 6."""
_CROPS: dict[str, Any] = {"count": 2, "local_count": 8, "local_blur": 0.5, "local_solarize": 0.0}
# The code of DINOv2 and DINOv3 states BYOL's blur, but hands 1 - p to what applies it: their released models saw these.
# https://github.com/facebookresearch/dinov2/pull/411, https://github.com/facebookresearch/dinov3/issues/286
_DINOV2 = _colours(_WEAK, **{**_UNLIKE, "blur": (0.0, 0.9)}, **_CROPS, scale=(0.32, 1.0), local_scale=(0.05, 0.32))

PRESETS: Mapping[str, dict[str, Any]] = {
    "simclr": _colours(_STRONG),  # https://arxiv.org/abs/2002.05709, appendix A
    "simclr_cifar": _colours(_HALF, blur=0.0),  # the same, appendix B.9
    "moco_v1": _colours((0.4, 0.4, 0.4, 0.4), scale=(0.2, 1.0), jitter=1.0, blur=0.0),  # https://github.com/facebookresearch/moco, without --aug-plus
    "moco_v2": _colours(_HALF, scale=(0.2, 1.0)),  # https://arxiv.org/abs/2003.04297; SimSiam's too
    "byol": _colours(_WEAK, **_UNLIKE),  # https://arxiv.org/abs/2006.07733, appendix B
    "barlow_twins": _colours(_WEAK, **_UNLIKE),  # https://arxiv.org/abs/2103.03230, section 2.2: BYOL's
    "swav": _colours(_STRONG, count=2, local_count=6, scale=(0.14, 1.0), local_scale=(0.05, 0.14), local_blur=0.5),  # https://arxiv.org/abs/2006.09882
    "dino": _colours(_WEAK, **_UNLIKE, **_CROPS, scale=(0.4, 1.0), local_scale=(0.05, 0.4)),  # https://arxiv.org/abs/2104.14294, the ViTs'
    "dinov2": _DINOV2,  # https://arxiv.org/abs/2304.07193
    "dinov3": {**_DINOV2, "flip": 0.0},  # https://arxiv.org/abs/2508.10104: the 7B's, which is never flipped
    # https://github.com/facebookresearch/sscd-copy-detection, "advanced": its quarter turns and free rotations as one
    "sscd": _colours(_STRONG, blur_sigma=(1.0, 5.0), turn=0.1, rotation=180.0, text=0.1, shape=0.2, compression=0.2),
    "mae": _colours((0.0, 0.0, 0.0, 0.0), scale=(0.2, 1.0), jitter=0.0, grey=0.0, blur=0.0),  # https://arxiv.org/abs/2111.06377
}
"""What each preset sets. Those of one crop size leave the method's number of crops alone."""


def exactly_two(views: Views) -> Views:
    """The views, for a method that compares one global crop with another."""
    if (views.count, views.local_count) != (2, 0):
        wrong = "count" if views.count != 2 else "local_count"
        raise Unfit("this method compares two global crops: count must be 2 and local_count 0", wrong)
    return views


def two_or_more(views: Views) -> Views:
    """The views, for a method that predicts one crop from others."""
    if views.count + views.local_count < 2:
        raise Unfit("this method predicts one crop from another: count and local_count must add up to 2 or more", "count")
    return views
