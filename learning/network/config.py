"""What a sequence actor is built from: observations, actions, sizes. Names are the seed's where it has one."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from spec.action import ActionSpace
from spec.manifest import Action, ImageInput, Observation, StateFeature
from spec.robot import Section

ACTOR_KIND = "sequence_actor/1"
"""Written into checkpoints and manifests; the number grows when the meaning of the weights changes."""


class DecoderKind(StrEnum):
    """How a chunk comes about."""

    AUTOREGRESSIVE = "autoregressive"
    """Step k sees the actions before it: p(a_0..a_C) = prod p(a_k | a_<k, history)."""
    PARALLEL = "parallel"
    """One learned query per step, all decoded in one pass: steps are independent given the history."""


class Activation(StrEnum):
    RELU = "relu"
    GELU = "gelu"


class Pooling(StrEnum):
    """How the feature map of an image becomes one vector."""

    EMBEDDING = "embedding"
    """Summed under learned spatial maps."""
    KEYPOINTS = "keypoints"
    """Where each channel is brightest, as image coordinates (spatial soft-argmax, Finn et al. 2016): far quicker to
    learn where things are, from few demonstrations."""


class Backbone(StrEnum):
    """What an image passes through before pooling."""

    CNN = "cnn"
    """The plain convolutions of ``cnn``."""
    RESNET10 = "resnet10"
    RESNET18 = "resnet18"


RESNET_CHANNELS = (64, 128, 256, 512)
"""Of the stages of ResNet-10 and ResNet-18, which have one and two blocks each (He et al. 2016, table 1)."""


class Convolution(Section):
    """One stage of the image encoder: convolution without padding, then ReLU."""

    channels: PositiveInt
    kernel: PositiveInt
    stride: PositiveInt = 2


_CNN = tuple(Convolution(channels=32, kernel=kernel) for kernel in (7, 5, 3, 3))


class ActorConfig(Section):
    """Everything needed to build a :class:`learning.network.actor.SequenceActor`; stored beside its weights."""

    joints: tuple[str, ...] = Field(min_length=1)
    """In action order."""
    state: tuple[StateFeature, ...] = (StateFeature.POSITION,)
    cameras: dict[str, ImageInput] = Field(default_factory=dict)
    vectors: dict[str, PositiveInt] = Field(default_factory=dict)
    """Further numbers in the state, after those of the joints: see :class:`spec.manifest.Observation`."""
    obs_history_length: PositiveInt = 5
    """Frames H the actor looks back on, the newest included."""
    obs_step_s: PositiveFloat = 0.1
    """Time between them [s]."""
    action_space: ActionSpace = ActionSpace.JOINT_POSITION
    act_chunk_size: PositiveInt = 8
    """Actions C in a chunk."""
    act_step_s: PositiveFloat = 0.1
    """Time between them [s]."""

    decoder: DecoderKind = DecoderKind.AUTOREGRESSIVE
    act_dim_model: PositiveInt = 512
    act_n_heads: PositiveInt = 8
    act_dim_feedforward: PositiveInt = 3200
    act_n_encoder_layers: PositiveInt = 4
    act_n_decoder_layers: PositiveInt = 4
    act_dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    act_activation: Activation = Activation.RELU
    act_pre_norm: bool = False
    act_end_norm: bool = True
    """Where layers begin with their norm, encoder and decoder end with one more."""
    log_std_min: float = -5.0
    log_std_max: float = 2.0
    latent_dim: PositiveInt = 256
    """Width of the state feature and of each camera's feature."""
    vector_encoders: bool = False
    """Each of ``vectors`` has a feature of its own, ``latent_dim`` wide; else one feature holds the whole state."""
    backbone: Backbone = Backbone.CNN
    cnn: tuple[Convolution, ...] = Field(default=_CNN, min_length=1)
    """Stages of backbone ``cnn``."""
    pooling: Pooling = Pooling.EMBEDDING
    spatial_features: PositiveInt = 8
    """Learned spatial maps per channel, for pooling ``embedding``."""

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.act_dim_model % self.act_n_heads:
            raise ValueError(f"act_dim_model {self.act_dim_model} is not a multiple of act_n_heads {self.act_n_heads}")
        if not self.state_dim:
            raise ValueError("state and vectors are both empty; the actor needs at least one number")
        if not self.log_std_min < self.log_std_max:
            raise ValueError(f"log_std_min {self.log_std_min} is not below log_std_max {self.log_std_max}")
        for name, image in self.cameras.items():
            if min(self.feature_map(image)) < 1:
                raise ValueError(f"cameras.{name}: {image.height}x{image.width} is too small for the convolutions")
        return self

    @property
    def state_dim(self) -> int:
        """S, numbers in one frame's state."""
        return self.observation().state_dim(len(self.joints))

    @property
    def action_dim(self) -> int:
        """A, numbers in one action."""
        return len(self.joints)

    def feature_map(self, image: ImageInput) -> tuple[int, int]:
        """Height and width that the convolutions leave of an image."""
        height, width = image.height, image.width
        if self.backbone is not Backbone.CNN:
            return -(-height // 32), -(-width // 32)
        for stage in self.cnn:
            height = (height - stage.kernel) // stage.stride + 1
            width = (width - stage.kernel) // stage.stride + 1
        return height, width

    def observation(self) -> Observation:
        """What the policy sees, as the bundle manifest says it."""
        return Observation(
            history=self.obs_history_length,
            step_s=self.obs_step_s,
            state=self.state,
            cameras=self.cameras,
            vectors=self.vectors,
        )

    def action(self) -> Action:
        """What the policy says, as the bundle manifest says it."""
        return Action(space=self.action_space, chunk=self.act_chunk_size, step_s=self.act_step_s)
