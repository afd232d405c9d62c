"""Annotations as a config says them. Each raises UserError where nothing lies there, a file does not parse, or it names images that are not there."""

from schemas.annotations import COCO, VOC, BoxAnnotations, DepthAnnotations, Drawn, MaskAnnotations, MaskFolder
from ssl_tasks.data.annotations.coco import COCOBoxes, COCOMasks
from ssl_tasks.data.annotations.drawn import DrawnBoxes, DrawnDepths, DrawnMasks
from ssl_tasks.data.annotations.folders import FolderDepths, FolderMasks
from ssl_tasks.data.annotations.interfaces import Boxes, Depths, Masks
from ssl_tasks.data.annotations.pictures import Pictures
from ssl_tasks.data.annotations.voc import VOCBoxes


def masks(config: MaskAnnotations, pictures: Pictures) -> Masks:
    """The class of every pixel."""
    match config:
        case Drawn():
            return DrawnMasks(pictures)
        case MaskFolder():
            return FolderMasks(config, pictures)
        case COCO():
            return COCOMasks(config, pictures)


def depths(config: DepthAnnotations, pictures: Pictures) -> Depths:
    """The depth of every pixel."""
    return DrawnDepths(pictures) if isinstance(config, Drawn) else FolderDepths(config, pictures)


def boxes(config: BoxAnnotations, pictures: Pictures) -> Boxes:
    """The objects."""
    match config:
        case Drawn():
            return DrawnBoxes(pictures)
        case COCO():
            return COCOBoxes(config, pictures)
        case VOC():
            return VOCBoxes(config, pictures)
