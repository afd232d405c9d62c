"""How an image becomes views: random crops of it, each augmented on its own."""

from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from schemas.spec import Pair, Spec, Unfit

Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0)]


class Views(Spec):
    """Random resized crops with colour, blur and geometry, every sample with its own random parameters.

    Defaults are SimCLR's on ImageNet (https://arxiv.org/abs/2002.05709, appendix A).
    """

    count: PositiveInt = Field(2, description="global crops, each of the encoder's image size")
    scale: Pair = Field((0.08, 1.0), description="share of the area that a global crop covers")
    local_count: NonNegativeInt = Field(0, description="further small crops (multi-crop, SwAV)")
    local_size: PositiveInt | None = Field(None, description="side of a local crop; needed when there are any")
    local_scale: Pair = Field((0.05, 0.4), description="share of the area that a local crop covers")
    ratio: Pair = Field((3 / 4, 4 / 3), description="width over height of a crop")
    flip: Probability = Field(0.5, description="probability of a horizontal flip; 0 for digits, text and other chiral images")
    jitter: Probability = Field(0.8, description="probability of colour jitter")
    brightness: Strength = Field(0.8, description="largest relative change of brightness")
    contrast: Strength = Field(0.8, description="largest relative change of contrast")
    saturation: Strength = Field(0.8, description="largest relative change of saturation")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(0.2, description="largest shift of hue, in turns")
    grey: Probability = Field(0.2, description="probability of grey scale")
    blur: Probability = Field(0.5, description="probability of a Gaussian blur, sigma 0.1 to 2.0 at 224 px, less for smaller crops")
    solarize: Probability = Field(0.0, description="probability of inverting the bright half")
    rotation: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="largest rotation, in degrees")
    shear: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="largest horizontal shear: shift of a row over its distance from the middle")
    noise: Strength = Field(0.0, description="standard deviation of additive Gaussian noise, for pixels in [0, 1]")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in ("scale", "local_scale", "ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high or (name != "ratio" and high > 1):
                raise Unfit(f"{name} [{low}, {high}] must rise from above 0" + ("" if name == "ratio" else " to at most 1"), name)
        if self.local_count and not self.local_size:
            raise Unfit("local_count needs local_size", "local_count")
        return self


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
