"""What tokens cost, by the operator's price table. Pure."""

from dataclasses import dataclass
from decimal import Decimal

_MILLION = 1_000_000
_SMALLEST = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for a million prompt and completion tokens: of any model, and of those in a table by name."""

    other: tuple[float, float]
    table: tuple[tuple[str, float, float], ...] = ()

    def cost_of(self, model: str | None, prompt_tokens: int, completion_tokens: int) -> Decimal:
        """What the tokens cost in US dollars, to a millionth; a model that is not in the table costs as any other."""
        own = [(prompt, completion) for name, prompt, completion in self.table if name == model]
        prompt, completion = own[0] if own else self.other
        dollars = (prompt_tokens * Decimal(str(prompt)) + completion_tokens * Decimal(str(completion))) / _MILLION
        return dollars.quantize(_SMALLEST)
