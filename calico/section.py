"""What the sections of params.yaml are made of."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]


def _each_once(values: list[Any]) -> list[Any]:
    if repeated := sorted({value for value in values if values.count(value) > 1}):
        raise ValueError(f"{', '.join(map(str, repeated))} stands there more than once; name each once")
    return values


EachOnce = AfterValidator(_each_once)


class Section(BaseModel):
    """Base of all sections: unknown keys, coerced types, infinities and later changes are errors."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
