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


@frozen(kw_only=True, slots=False)
class SupportedFeature(Model):
    """An operation that an integration supports for a data type, and the state of the support."""

    feature_type: FeatureType | None = None
    """What can be done."""

    feature_state: FeatureState | None = None
    """Whether it is released."""


@frozen(kw_only=True, slots=False)
class DataTypeFeature(Model):
    """The operations that an integration supports for one data type."""

    data_type: DataType | None = field(default=None, metadata={"key": "datatype"})
    """The data type."""

    supported_features: tuple[SupportedFeature, ...] = ()
    """What can be done with it."""


@frozen(kw_only=True, slots=False)
class Integration(Model):
    """A platform that Codat supports.

    Source: https://docs.codat.io/sync-for-commerce-api#/schemas/Integration
    """

    key: str
    """The platform's four letters."""

    logo_url: str | None = None
    """The URL of the logo."""

    name: str | None = None
    """The name of the platform."""

    enabled: bool | None = None
    """Whether your customers may use it."""

    source_id: str | None = None
    """The id of the source."""

    source_type: SourceType | None = None
    """The kind of platform."""

    integration_id: str | None = None
    """The id of the integration."""

    is_offline_connector: bool | None = None
    """Whether the platform is installed at the merchant's."""

    is_beta: bool | None = None
    """Whether the integration is in beta."""

    data_provided_by: str | None = None
    """The name of the company that provides the data."""

    datatype_features: tuple[DataTypeFeature, ...] = ()
    """What can be done, by data type."""


@frozen(kw_only=True, slots=False)
class Integrations(Page[Integration]):
    """A page of integrations."""

    results: tuple[Integration, ...] = ()
    """The integrations of this page."""


@frozen(kw_only=True, slots=False)
class ImageReference(Model):
    """An image's address and its alternative text."""

    src: str | None = None
    """The URL of the image."""

    alt: str | None = None
    """The alternative text."""


@frozen(kw_only=True, slots=False)
class BrandingImage(Model):
    """An image of a platform's branding."""

    image: ImageReference | None = None
    """The image."""


@frozen(kw_only=True, slots=False)
class BrandingLogo(Model):
    """A platform's logo, wide and square."""

    full: BrandingImage | None = None
    """The wide logo."""

    square: BrandingImage | None = None
    """The square logo."""


@frozen(kw_only=True, slots=False)
class BrandingButton(Model):
    """A platform's button, in its default and its hover state."""

    default: BrandingImage | None = None
    """The button in its default state."""

    hover: BrandingImage | None = None
    """The button under the pointer."""


@frozen(kw_only=True, slots=False)
class Branding(Model):
    """The branding that a platform requires.

    Source: https://docs.codat.io/sync-for-commerce-api#/schemas/Branding
    """

    logo: BrandingLogo | None = None
    """The logo."""

    button: BrandingButton | None = None
    """The button."""

    source_id: str | None = None
    """The id of the source."""
