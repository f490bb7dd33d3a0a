"""The platforms that Codat connects to, and their branding."""

from attrs import field, frozen

from codat_commerce_async.models.base import Model
from codat_commerce_async.models.enums import DataType, FeatureState, FeatureType, SourceType
from codat_commerce_async.models.paging import Page

__all__ = [
    "Branding",
    "BrandingButton",
    "BrandingImage",
    "BrandingLogo",
    "DataTypeFeature",
    "ImageReference",
    "Integration",
    "Integrations",
    "SupportedFeature",
]


@frozen(kw_only=True)
class SupportedFeature(Model):
    """An operation that an integration supports for a data type, and the state of the support."""

    feature_type: FeatureType | None = None
    feature_state: FeatureState | None = None


@frozen(kw_only=True)
class DataTypeFeature(Model):
    """The operations that an integration supports for one data type."""

    data_type: DataType | None = field(default=None, metadata={"key": "datatype"})
    supported_features: tuple[SupportedFeature, ...] = ()


@frozen(kw_only=True)
class Integration(Model):
    """A platform that Codat supports.

    `key` is its four letters, `enabled` is True if your customers may use it.
    Source: https://docs.codat.io/sync-for-commerce-api#/schemas/Integration
    """

    key: str
    logo_url: str | None = None
    name: str | None = None
    enabled: bool | None = None
    source_id: str | None = None
    source_type: SourceType | None = None
    integration_id: str | None = None
    is_offline_connector: bool | None = None
    is_beta: bool | None = None
    data_provided_by: str | None = None
    datatype_features: tuple[DataTypeFeature, ...] = ()


@frozen(kw_only=True)
class Integrations(Page[Integration]):
    """A page of integrations."""

    results: tuple[Integration, ...] = ()


@frozen(kw_only=True)
class ImageReference(Model):
    """An image's address and its alternative text."""

    src: str | None = None
    alt: str | None = None


@frozen(kw_only=True)
class BrandingImage(Model):
    """An image of a platform's branding."""

    image: ImageReference | None = None


@frozen(kw_only=True)
class BrandingLogo(Model):
    """A platform's logo, wide and square."""

    full: BrandingImage | None = None
    square: BrandingImage | None = None


@frozen(kw_only=True)
class BrandingButton(Model):
    """A platform's button, in its default and its hover state."""

    default: BrandingImage | None = None
    hover: BrandingImage | None = None


@frozen(kw_only=True)
class Branding(Model):
    """The branding that a platform requires.

    Source: https://docs.codat.io/sync-for-commerce-api#/schemas/Branding
    """

    logo: BrandingLogo | None = None
    button: BrandingButton | None = None
    source_id: str | None = None
