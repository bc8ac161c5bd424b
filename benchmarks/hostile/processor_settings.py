"""Settings of preprocessor_config.json, each done as transformers does it, or refused by name.

The one list; tests/hostile/test_processor_settings.py holds the import to it. A setting changes the
file of a good folder; where `refusal` are empty, pixels or vectors must be transformers'.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

IMAGE: Final[Mapping[str, Any]] = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 36},
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "resample": 3,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
}
SOUND: Final[Mapping[str, Any]] = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "sampling_rate": 8000,
    "do_normalize": True,
}
SQUARE: Final = {"height": 32, "width": 32}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A change of a processor's file: keys that are set, and keys that are `silent`."""

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    refusal: str = ""

    def __str__(self) -> str:
        return self.name

    def of(self, good: Mapping[str, Any]) -> dict[str, Any]:
        """Give the changed settings of a good file."""
        kept = {key: value for key, value in good.items() if key not in self.silent}
        return {**kept, **self.values}


IMAGES: Final[tuple[Setting, ...]] = (
    Setting(name="unchanged"),
    Setting(name="bilinear", values={"resample": 2}),
    Setting(name="resample unsaid: the class's", silent=("resample",)),
    Setting(name="a size of one number: the shorter side", values={"size": 36}),
    Setting(
        name="a size of one number: both sides",
        values={"image_processor_type": "ViTImageProcessor", "size": 32, "do_center_crop": False},
    ),
    Setting(name="both sides", values={"size": {"height": 40, "width": 36}}),
    Setting(name="a crop of one number", values={"crop_size": 30}),
    Setting(name="a crop that is no square", values={"crop_size": {"height": 20, "width": 31}}),
    Setting(name="no crop", values={"do_center_crop": False, "size": SQUARE}),
    Setting(name="a crop unsaid: the class's", silent=("do_center_crop",)),
    Setting(
        name="a crop unsaid by a class that has none",
        values={"image_processor_type": "ViTImageProcessor", "size": SQUARE},
        silent=("do_center_crop",),
    ),
    Setting(
        name="a crop unsaid by a class that has one",
        values={"image_processor_type": "DeiTImageProcessor", "size": 40},
        silent=("do_center_crop",),
    ),
    Setting(name="mean and deviation unsaid: the class's", silent=("image_mean", "image_std")),
    Setting(
        name="its old name",
        values={"feature_extractor_type": "CLIPFeatureExtractor"},
        silent=("image_processor_type",),
    ),
    Setting(name="do_convert_rgb false", values={"do_convert_rgb": False}),
    Setting(
        name="the class of another library's", values={"image_processor_type": "BitImageProcessor"}
    ),
    Setting(name="nearest", values={"resample": 0}, refusal="has resample 0; attar imports 2"),
    Setting(name="Lanczos", values={"resample": 1}, refusal="has resample 1; attar imports 2"),
    Setting(name="no resizing", values={"do_resize": False}, refusal="has do_resize False"),
    Setting(name="no scale", values={"do_rescale": False}, refusal="has do_rescale False"),
    Setting(
        name="another scale", values={"rescale_factor": 1 / 127.5}, refusal="has rescale_factor"
    ),
    Setting(name="no mean", values={"do_normalize": False}, refusal="has do_normalize False"),
    Setting(name="padding", values={"do_pad": True}, refusal="has do_pad True"),
    Setting(
        name="blue first", values={"do_flip_channel_order": True}, refusal="has do_flip_channel"
    ),
    Setting(name="a crop beyond the image", values={"crop_size": 50}, refusal="a crop of (50, 50)"),
    Setting(
        name="the shorter side alone", values={"do_center_crop": False}, refusal="pass crop too"
    ),
    Setting(name="the longer side", values={"size": {"longest_edge": 36}}, refusal="cannot"),
    Setting(
        name="a deviation of 0", values={"image_std": [0.5, 0, 0.5]}, refusal="must be positive"
    ),
    Setting(name="a mean of one channel", values={"image_mean": [0.5]}, refusal="of 3 channels"),
    Setting(name="a size of words", values={"size": "large"}, refusal="cannot build the processor"),
    Setting(
        name="a class of nobody's",
        values={"image_processor_type": "TheirProcessor"},
        refusal="cannot build the processor",
    ),
    Setting(
        name="code", values={"auto_map": {"AutoImageProcessor": "a.B"}}, refusal="has auto_map"
    ),
)
SOUNDS: Final[tuple[Setting, ...]] = (
    Setting(name="unchanged"),
    Setting(name="as loud as it is", values={"do_normalize": False}),
    Setting(name="loudness unsaid: the class's", silent=("do_normalize",)),
    Setting(name="a rate unsaid: the class's", silent=("sampling_rate",)),
    Setting(name="features unsaid: the class's", silent=("feature_size",)),
    Setting(name="a mask, which nothing needs", values={"return_attention_mask": True}),
    Setting(name="padding before, of which there is none", values={"padding_side": "left"}),
    Setting(name="padding of ones, of which there is none", values={"padding_value": 1.0}),
    Setting(name="a flag of 1", values={"do_normalize": 1}, refusal="has do_normalize 1; expected"),
    Setting(name="two features", values={"feature_size": 2}, refusal="of 2 features"),
    Setting(name="a rate of 0", values={"sampling_rate": 0}, refusal="has sampling_rate 0"),
    Setting(
        name="a rate of words", values={"sampling_rate": "8k"}, refusal="has sampling_rate '8k'"
    ),
    Setting(
        name="mel frames",
        values={"feature_extractor_type": "WhisperFeatureExtractor"},
        refusal="is a WhisperFeatureExtractor",
    ),
    Setting(name="code", values={"auto_map": {"AutoProcessor": "a.B"}}, refusal="has auto_map"),
)
