"""How what was exported is loaded: code for the model card, that runs as it stands in the folder of the files."""

import json

from schemas.exports import Format, Registered
from ssl_tasks.export import onnx_graph, timm_weights, torch_archive
from ssl_tasks.export.original import Original
from ssl_tasks.nn.backbone import architecture, timm_arguments

PREPARE = """\
from PIL import Image
from torchvision import transforms

prepare = transforms.Compose([
    transforms.Resize({resized}),
    transforms.CenterCrop({size}),{grey}
    transforms.ToTensor(),
    transforms.Normalize({mean}, {std}),
])
images = prepare(Image.open("image.png").convert("RGB"))[None]  # (1, {channels}, {size}, {size})
"""
TIMM = """\
import timm

model = timm.create_model("{name}", num_classes={classes}, checkpoint_path="timm/{file}"{arguments}).eval()
{result} = model(images)
"""
ONNX = """\
import onnxruntime

session = onnxruntime.InferenceSession("onnx/{file}")
{results} = session.run(None, {{"images": images.numpy()}})
"""
TORCH = """\
import torch

model = torch.export.load("torch_export/{file}").module()
{results} = model(images)
"""
MLFLOW = (
    "import mlflow\n\n"
    'model = mlflow.pyfunc.load_model("models:/{name}{version}")  # needs this package, and MLFLOW_TRACKING_URI where it was registered\n'
    'outputs = model.predict(["image.png"])  # files, or uint8 arrays (N, H, W, {channels}); gives {names}\n'
)


def preparation(original: Original) -> str:
    """Code that makes `images` of a file."""
    artifact = original.artifact
    config = artifact.encoder
    grey = "\n    transforms.Grayscale()," if config.channels == 1 else ""  # after resizing, as rounding to whole numbers comes in between
    resized = round(config.image_size * 256 / 224)
    return PREPARE.format(resized=resized, size=config.image_size, channels=config.channels, mean=artifact.mean, std=artifact.std, grey=grey)


def loading(original: Original, made: Format) -> str:
    """Code that loads a format and takes `images`."""
    config, results = original.artifact.encoder, ", ".join(original.outputs) + "," * (len(original.outputs) == 1)
    match made:
        case "timm":
            arguments = "".join(f", {name}={value!r}" for name, value in timm_arguments(config).items())
            classes = len(original.artifact.classes)
            result = "logits" if classes else "features"
            return TIMM.format(name=architecture(config), classes=classes, file=timm_weights.FILE, arguments=arguments, result=result)
        case "onnx":
            return ONNX.format(file=onnx_graph.FILE, results=results)
        case "torch_export":
            return TORCH.format(file=torch_archive.FILE, results=results)


def registered(original: Original, registry: Registered) -> str:
    """Code that loads the model from MLflow's registry."""
    version = f"@{registry.alias}" if registry.alias else "/latest"
    names = json.dumps([name for name in original.outputs if name != "patches"])[1:-1].replace('"', "`")
    return MLFLOW.format(name=registry.name, version=version, channels=original.artifact.encoder.channels, names=names)
